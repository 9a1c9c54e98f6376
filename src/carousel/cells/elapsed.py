"""Cells that are told how much time has gone by."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cell import Cell


class TimedCell(Cell):
    """A cell whose input may end with the time since the step before.

    Args:
        timed: whether the last feature of x is that time; otherwise it is 1 in each step.
    """

    def __init__(self, *arguments: Any, timed: bool = False, **options: Any) -> None:
        self.timed = timed
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = super().shapes()
        rows, features = shapes["weight_ih"]
        if self.timed and features < 1:
            raise ValueError("with timed=True input_size counts the time, so it has to be at least 1")
        return shapes | {"weight_ih": (rows, features - self.timed)}

    def input_map(self, x: Tensor) -> Tensor:
        if not self.timed:
            return super().input_map(x)
        x, elapsed = x[..., :-1], x[..., -1:]
        return torch.cat(
            [F.linear(x, self.weight_ih, self.bias_ih), elapsed.expand(*x.shape[:-1], self.hidden_size)], -1
        )

    def apart(self, wx: Tensor) -> tuple[Tensor, Tensor | float]:
        """What `input_map` gives, as W x (..., G*H) and the time since the step before (..., H), or 1."""
        if not self.timed:
            return wx, 1.0
        wx, elapsed = wx.split([wx.size(-1) - self.hidden_size, self.hidden_size], -1)
        return wx, elapsed
