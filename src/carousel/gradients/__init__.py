"""Pure measures on a recurrent layer: torch only, no Lightning, no Hydra."""

from . import theory
from .flow import Flow, Rate, decay_rate, flow, memory_length, watch
from .gates import Gates, gates
from .jacobian import Jacobian, jacobian, largest_singular_values
from .lyapunov import lyapunov
from .paths import Paths, paths

__all__ = [
    "Flow",
    "Gates",
    "Jacobian",
    "Paths",
    "Rate",
    "decay_rate",
    "flow",
    "gates",
    "jacobian",
    "largest_singular_values",
    "lyapunov",
    "memory_length",
    "paths",
    "theory",
    "watch",
]
