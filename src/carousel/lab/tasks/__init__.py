"""Tasks, one file each, generated or of recorded data: the sequences, what is to be predicted, and how it is scored."""

from hydra.utils import get_class

from .real.images import MNIST, Digits
from .real.japanese_vowels import JapaneseVowels
from .real.mnist1d import MNIST1D
from .real.spoken_digits import SpokenDigits
from .synthetic.adding import Adding
from .synthetic.latch import Latch
from .synthetic.parity import Parity
from .synthetic.temporal_order import TemporalOrder
from .task import (
    IGNORE,
    Batch,
    Classification,
    Generated,
    Predictor,
    Recorded,
    Regression,
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
    "Adding",
    "Batch",
    "Classification",
    "Digits",
    "Generated",
    "JapaneseVowels",
    "Latch",
    "Parity",
    "Predictor",
    "Recorded",
    "Regression",
    "SpokenDigits",
    "Stream",
    "Task",
    "TemporalOrder",
    "always",
    "custom",
    "marked",
    "real",
]
