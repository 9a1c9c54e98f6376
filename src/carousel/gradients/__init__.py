"""Pure measures on a recurrent layer: torch only, no Lightning, no Hydra."""

from .flow import Flow, flow, memory_length, watch
from .jacobian import Jacobian, jacobian, largest_singular_values

__all__ = [
    "Flow",
    "Jacobian",
    "flow",
    "jacobian",
    "largest_singular_values",
    "memory_length",
    "watch",
]
