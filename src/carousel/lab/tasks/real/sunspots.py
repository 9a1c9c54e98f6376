"""Sunspots: the next years."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..forecast import Forecast
from .recordings import embedded


@dataclass(frozen=True)
class Sunspots(Forecast):
    """Tell the mean number of sunspots of the next 11 years, about a cycle, from 33 years before.

    Means of each year from 1700 to 2008 (309). They begin so, and with a horizon of 1 the first sequence is

        5  11  16  23  36  58  29 ...     1700 to 1732 -> that of 1733

    Targets: training until 1920, validation 1921 to 1955, test 1956 to 2008, a forecast every year.

    Losses are compared with the value 11 years ago.
    """

    window: int = 33
    horizon: int = 11
    every: int = 1
    unit = "sunspots, mean of the year"
    step = "year"
    lags = {"11 years ago": 11, "last value": 1}  # noqa: RUF012
    borders = (221, 256)

    def values(self) -> Tensor:
        return torch.from_numpy(embedded("sunspots")["tenths"] / 10)

    def when(self, index: int) -> str:
        return f"from {1700 + index}"
