"""The Mackey-Glass series."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..forecast import Forecast


@dataclass(frozen=True)
class MackeyGlass(Forecast):
    r"""Tell the next values of a chaotic series, that of Mackey & Glass 1977 with a delay of `tau`:

        dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t),     x(t) = 1.2 until t = 0

    Until t = tau the delayed value is 1.2, and so x falls from there exponentially to c = 2.4 / (1 + 1.2^10) = 0.3336:

        x(1) = c + (1.2 - c) e^-0.1 = 1.1176,  x(2) = 1.0430,  x(3) = 0.9755

    The series has one value at every whole t from 1001 to 11,000, solved by the classical Runge-Kutta method in ten
    steps from each to the next. Targets: training the first 8000, validation 1000, test 1000.

    Losses are compared with the value 50 steps ago: the series nearly repeats about every 50.

    NeuroBench asks another question of another solver's series, so its numbers are no measure here: trained on 750
    points, 75 a Lyapunov time, models run free for 750 more; symmetric MAPE 13.37 of an LSTM, 14.79 of an echo state
    network. `experiment=reproduce/mackey_glass` asks that one.
    """

    window: int = 50
    horizon: int = 50
    every: int = 1
    tau: int = 17
    unit = "x"
    step = "step"
    lags = {"50 steps ago": 50, "last value": 1}  # noqa: RUF012
    borders = (8000, 9000)

    def __post_init__(self) -> None:
        if type(self.tau) is not int or self.tau < 1:
            raise ValueError(f"tau must be an integer of at least 1, got {self.tau!r}")
        super().__post_init__()

    def values(self) -> Tensor:
        return mackey_glass(self.tau, 11_001)[1001:]


@functools.cache
def mackey_glass(tau: int, num: int, substeps: int = 10, begin: float = 1.2, every: int | None = None) -> Tensor:
    """The values at t = 0, 1, ..., num - 1, (num,); or, with `every`, at so many substeps from each to the next.

    By the classical Runge-Kutta method; what is needed half-way between two earlier steps is of the cubic through both
    with their slopes (Hermite), which is as accurate.
    """
    h, delay, every = 1 / substeps, tau * substeps, every or substeps
    x, halfway = [begin] * (delay + 1), [begin] * delay  # until t = 0; the second between each x and the next

    def rate(now: float, then: float) -> float:
        return 0.2 * then / (1 + then**10) - 0.1 * now

    for k in range((num - 1) * every):
        now, then, after = x[-1], x[k], x[k + 1]
        k1 = rate(now, then)
        k2 = rate(now + h / 2 * k1, halfway[k])
        k3 = rate(now + h / 2 * k2, halfway[k])
        k4 = rate(now + h * k3, after)
        new = now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        x.append(new)
        halfway.append((now + new) / 2 + h / 8 * (k1 - rate(new, after)))
    return torch.tensor(x[delay::every], dtype=torch.float64)
