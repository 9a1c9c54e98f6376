"""Recurrent cells in plain PyTorch, and one layer that runs any of them with the interface of `torch.nn.LSTM`.

Begin with `Recurrent`, and its `LSTM`, `GRU` and `RNN`. On pages of their own:

- how a cell is written: `carousel.cells`, and checked: `carousel.testing`
- how a measure is read: `carousel.gradients`
- how a task is added: `carousel.lab.tasks`
- how to run on a cluster: `carousel.lab`
- how the engine works: `carousel.engine`, and how it makes a kernel: `carousel.engine.fused`

.. include:: README.md
"""

from . import cells, gradients, initialization, testing
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .engine import explain
from .keras import from_keras, to_keras
from .layer import Recurrent
from .layers import GRU, LSTM, RNN, from_torch
from .regularization import Detach, Regularization
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
