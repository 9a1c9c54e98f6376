"""Recurrent cells, one file each.

.. include:: README.md
"""

from .cell import Cell
from .cfc import CfCCell
from .cho_gru import ChoGRUCell
from .cornn import CoRNNCell
from .diagonal import DiagonalGRUCell, DiagonalLSTMCell
from .elman import RNNCell
from .fast_grnn import FastGRNNCell
from .foreign import ModuleCell
from .gru import GRUCell
from .highway import HighwayCell
from .indrnn import IndRNNCell
from .janet import JANETCell
from .lem import LEMCell
from .lru import LRUCell
from .lstm import LSTMCell
from .lstm_variant import ABLATIONS, LSTMVariantCell
from .mgu import MGUCell
from .min_gru import MinGRUCell, MinLSTMCell
from .multiplicative_lstm import MultiplicativeLSTMCell
from .phased_lstm import PhasedLSTMCell
from .rg_lru import RGLRUCell
from .slstm import SLSTMCell
from .sru import SRUCell
from .ugrnn import UGRNNCell
from .unicornn import UnICORNNCell

__all__ = [
    "ABLATIONS",
    "Cell",
    "CfCCell",
    "ChoGRUCell",
    "CoRNNCell",
    "DiagonalGRUCell",
    "DiagonalLSTMCell",
    "FastGRNNCell",
    "GRUCell",
    "HighwayCell",
    "IndRNNCell",
    "JANETCell",
    "LEMCell",
    "LRUCell",
    "LSTMCell",
    "LSTMVariantCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "ModuleCell",
    "MultiplicativeLSTMCell",
    "PhasedLSTMCell",
    "RGLRUCell",
    "RNNCell",
    "SLSTMCell",
    "SRUCell",
    "UGRNNCell",
    "UnICORNNCell",
]
