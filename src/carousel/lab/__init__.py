"""The lab: tasks, training, measures over training, figures and reports. Needs lightning and hydra."""

from .generate import continued
from .records import collect as results
from .saved import load

__all__ = ["continued", "load", "results"]
