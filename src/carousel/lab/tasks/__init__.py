"""Tasks, one file each, generated or of recorded data: the sequences, what is to be predicted, and how it is scored."""

from hydra.utils import get_class

from .real.characters import Characters
from .real.text import Text
from .real.words import Words
from .synthetic.adding import Adding
from .synthetic.anbn import AnBn
from .synthetic.copy_memory import CopyMemory
from .synthetic.latch import Latch
from .synthetic.multiplication import Multiplication
from .synthetic.parity import Parity
from .synthetic.reber import Reber
from .synthetic.temporal_order import TemporalOrder
from .synthetic.word_problem import WordProblem
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
    "Adding",
    "AnBn",
    "Batch",
    "Characters",
    "Classification",
    "CopyMemory",
    "Generated",
    "Latch",
    "Multiplication",
    "Parity",
    "Predictor",
    "Reber",
    "Recorded",
    "Regression",
    "Share",
    "Stream",
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
