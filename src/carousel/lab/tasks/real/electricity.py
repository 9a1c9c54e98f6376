"""Electricity: tomorrow's load."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import torch
from torch import Tensor

from ..forecast import Forecast
from .recordings import embedded


@dataclass(frozen=True)
class Electricity(Forecast):
    """Tell a day's electricity load, hour by hour, at its midnight, from the week before.

    The mean load of 321 clients in Portugal, in kW as the source has it, at every hour of 2012 to 2014 (26,304):

        1300.6  1404.5  1384.3 ... 2734.7  2378.7     the first 168 hours, 1 to 7 January 2012
        1843.1  1516.5  1438.1 ...                    the 24 hours of 8 January, their target

    Targets: training 2012 and 2013, validation the first half of 2014, test the second; a forecast every 24 hours, and
    so at midnight alone. Three hours of March, in which clocks were changed, are near 0 in the data, and stay.

    Losses are compared with the same hour a day ago.
    """

    window: int = 168
    horizon: int = 24
    every: int = 24
    unit = "mean load of a client in kW"
    step = "hour"
    lags = {"a day ago": 24, "a week ago": 168, "last value": 1}  # noqa: RUF012
    borders = (366 * 24 + 365 * 24, 366 * 24 + 365 * 24 + 181 * 24)

    def values(self) -> Tensor:
        return torch.from_numpy(embedded("electricity")["sum"] / 321)

    def when(self, index: int) -> str:
        return f"{datetime(2012, 1, 1) + timedelta(hours=index):%a %d %b %Y, %H:%M}"
