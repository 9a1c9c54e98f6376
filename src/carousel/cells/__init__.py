"""Recurrent cells, one file each."""

from .cell import Cell
from .elman import RNNCell
from .foreign import ModuleCell
from .gru import GRUCell
from .highway import HighwayCell
from .indrnn import IndRNNCell
from .janet import JANETCell
from .lstm import LSTMCell
from .lstm_variant import ABLATIONS, LSTMVariantCell
from .mgu import MGUCell

__all__ = [
    "ABLATIONS",
    "Cell",
    "GRUCell",
    "HighwayCell",
    "IndRNNCell",
    "JANETCell",
    "LSTMCell",
    "LSTMVariantCell",
    "MGUCell",
    "ModuleCell",
    "RNNCell",
]
