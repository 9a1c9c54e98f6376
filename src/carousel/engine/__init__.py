"""How a cell is run over time. An engine knows the contract of a cell, and no particular cell."""

from .eager import Loop, Masks, rows, step

__all__ = ["Loop", "Masks", "rows", "step"]
