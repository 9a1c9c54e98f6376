"""Tasks, one file each, generated or of recorded data: the sequences, what is to be predicted, and how it is scored.

.. include:: README.md
"""

from hydra.utils import get_class

from .forecast import Forecast
from .real.characters import Characters
from .real.electricity import Electricity
from .real.images import MNIST, Digits
from .real.japanese_vowels import JapaneseVowels
from .real.mnist1d import MNIST1D
from .real.spoken_digits import SpokenDigits
from .real.sunspots import Sunspots
from .real.text import Text
from .real.words import Words
from .synthetic.adding import Adding
from .synthetic.adding_1997 import Adding1997
from .synthetic.anbn import AnBn
from .synthetic.arithmetic import Arithmetic
from .synthetic.copy_memory import CopyMemory
from .synthetic.fitzhugh_nagumo import FitzHughNagumo
from .synthetic.latch import Latch
from .synthetic.mackey_glass import MackeyGlass
from .synthetic.multiplication import Multiplication
from .synthetic.parity import Parity
from .synthetic.random_numbers import RandomNumbers
from .synthetic.reber import Reber
from .synthetic.temporal_order import TemporalOrder
from .synthetic.word_problem import WordProblem
from .synthetic.xml import XML
from .task import (
    IGNORE,
    Batch,
    Classification,
    Generated,
    Predictor,
    Recorded,
    Regression,
    Share,
    Stream,
    Task,
    always,
    marked,
    real,
)


def custom(path: str, **options: object) -> Task:
    """A task of one's own: the class at `path`, such as "my_tasks.MyTask", called with the options."""
    return get_class(path)(**options)


__all__ = [
    "IGNORE",
    "MNIST",
    "MNIST1D",
    "XML",
    "Adding",
    "Adding1997",
    "AnBn",
    "Arithmetic",
    "Batch",
    "Characters",
    "Classification",
    "CopyMemory",
    "Digits",
    "Electricity",
    "FitzHughNagumo",
    "Forecast",
    "Generated",
    "JapaneseVowels",
    "Latch",
    "MackeyGlass",
    "Multiplication",
    "Parity",
    "Predictor",
    "RandomNumbers",
    "Reber",
    "Recorded",
    "Regression",
    "Share",
    "SpokenDigits",
    "Stream",
    "Sunspots",
    "Task",
    "TemporalOrder",
    "Text",
    "WordProblem",
    "Words",
    "always",
    "custom",
    "marked",
    "real",
]
