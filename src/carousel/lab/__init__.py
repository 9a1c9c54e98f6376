"""The lab: tasks, training, measures over training, figures and reports. Needs lightning and hydra."""

from .generate import continued
from .saved import load

__all__ = ["continued", "load"]
