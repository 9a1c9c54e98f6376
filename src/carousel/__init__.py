"""Recurrent cells in plain PyTorch, and one layer that runs any of them with the interface of `torch.nn.LSTM`."""

from . import gradients, initialization
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .layer import GRU, LSTM, RNN, Recurrent, from_torch

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "from_torch",
    "gradients",
    "initialization",
]
