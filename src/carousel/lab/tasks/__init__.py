"""Tasks, one file each, generated or of recorded data: the sequences, what is to be predicted, and how it is scored."""

from hydra.utils import get_class

from .forecast import Forecast
from .real.electricity import Electricity
from .real.sunspots import Sunspots
from .synthetic.adding import Adding
from .synthetic.latch import Latch
from .synthetic.mackey_glass import MackeyGlass
from .synthetic.parity import Parity
from .synthetic.random_numbers import RandomNumbers
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
    "Adding",
    "Batch",
    "Classification",
    "Electricity",
    "Forecast",
    "Generated",
    "Latch",
    "MackeyGlass",
    "Parity",
    "Predictor",
    "RandomNumbers",
    "Recorded",
    "Regression",
    "Stream",
    "Sunspots",
    "Task",
    "TemporalOrder",
    "always",
    "custom",
    "marked",
    "real",
]
