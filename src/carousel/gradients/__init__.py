"""Pure measures on a recurrent layer: torch only, no Lightning, no Hydra."""

from .flow import Flow, flow, memory_length, watch
from .jacobian import Jacobian, jacobian, largest_singular_values
from .lyapunov import lyapunov

__all__ = [
    "Flow",
    "Jacobian",
    "flow",
    "jacobian",
    "largest_singular_values",
    "lyapunov",
    "memory_length",
    "watch",
]
