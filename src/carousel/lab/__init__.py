"""The lab: tasks, training, measures over training, figures and reports. Needs lightning and hydra."""

from .saved import load

__all__ = ["load"]
