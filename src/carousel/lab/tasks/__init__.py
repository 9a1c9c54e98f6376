"""Tasks, one file each: a pure generator of sequences, and what counts as solving it."""

from .adding import Adding
from .task import Task
from .temporal_order import TemporalOrder

__all__ = ["Adding", "Task", "TemporalOrder"]
