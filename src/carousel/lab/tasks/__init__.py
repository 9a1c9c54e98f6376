"""Tasks, one file each: a pure generator of sequences, and what counts as solving it."""

from .adding import Adding
from .latch import Latch
from .parity import Parity
from .task import Classification, Task
from .temporal_order import TemporalOrder

__all__ = ["Adding", "Classification", "Latch", "Parity", "Task", "TemporalOrder"]
