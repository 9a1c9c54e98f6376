"""Recurrent cells in plain PyTorch, and one layer that runs any of them with the interface of `torch.nn.LSTM`.

Begin with `Recurrent`, and its `LSTM`, `GRU` and `RNN`. How a cell is written: `carousel.cells`; how one is
checked: `carousel.testing`; what is measured: `carousel.gradients`; how a kernel is made: `carousel.engine.fused`.
"""

from . import cells, gradients, initialization, testing
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .engine import explain
from .keras import from_keras, to_keras
from .layer import Recurrent
from .regularization import Detach, Regularization
from .twins import GRU, LSTM, RNN, from_torch
from .xlstm import from_xlstm

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "Detach",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "Regularization",
    "cells",
    "explain",
    "from_keras",
    "from_torch",
    "from_xlstm",
    "gradients",
    "initialization",
    "testing",
    "to_keras",
]
