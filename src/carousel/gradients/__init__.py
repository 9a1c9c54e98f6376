"""Pure measures on a recurrent layer: torch only, no Lightning, no Hydra."""

from . import theory
from .flow import Flow, flow, memory_length, watch

__all__ = ["Flow", "flow", "memory_length", "theory", "watch"]
