"""Recurrent cells, one file each."""

from .cell import Cell
from .elman import RNNCell
from .gru import GRUCell
from .lstm import LSTMCell

__all__ = ["Cell", "GRUCell", "LSTMCell", "RNNCell"]
