"""Measures on a recurrent layer, on torch alone.

Each takes the layer and a call that runs the model around it, once. What the layer was given in that run counts, and
the model is left as it was found: weights, `requires_grad`, gradients and hooks are not touched, and random numbers and
the buffers of every module that ran are put back at the end. What the call itself does besides, such as a step of an
optimizer, is not undone.

.. include:: README.md
"""

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
