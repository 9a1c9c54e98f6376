"""Pure measures on a recurrent layer: torch only, no Lightning, no Hydra."""

from . import theory
from .flow import Flow, Rate, decay_rate, flow, memory_length, watch
from .gates import Gates, gates
from .paths import Paths, paths

__all__ = [
    "Flow",
    "Gates",
    "Paths",
    "Rate",
    "decay_rate",
    "flow",
    "gates",
    "memory_length",
    "paths",
    "theory",
    "watch",
]
