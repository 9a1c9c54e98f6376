"""The voltage of a neuron by FitzHugh and Nagumo."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..task import Batch, Predictor, Recorded, Regression

STEP = 0.4
"""Of time, from one value to the next."""
SIZES = {"train": 128, "val": 128, "test": 1024}


@dataclass(frozen=True)
class FitzHughNagumo(Recorded, Regression):
    r"""Tell at every step the next value of the fast variable of a system on two time scales (FitzHugh 1961; as in
    Rusch et al. 2022):

        dv/dt = v - v^3 / 3 - w + 0.5,     dw/dt = 0.02 (v + 0.7 - 0.8 w),     w(0) = 0

    v starts from U(-1, 1) and is seen at t = 0, 0.4, 0.8 and so on; w, the slow one, is never seen. Soon v goes round
    and round: for long it creeps, then jumps. From v(0) = 0:

        input   0       0.244   0.593
        target  0.244   0.593   1.032

    There are 128 sequences for training, 128 for validation and 1024 for test, solved by the classical Runge-Kutta
    method in four steps from each value to the next. The loss is the mean squared error, compared with that of the
    last value; `straight on` is the line through the last two.

    Args:
        seed: of the beginnings.

    Raises:
        ValueError: `seq_len` is no integer of at least 1, or `seed` none of at least 0.
    """

    seq_len: int = 1000
    seed: int = 0
    input_size = 1
    output_size = 1
    every_step = True
    looks_ahead = True

    def __post_init__(self) -> None:
        for name, least in (("seq_len", 1), ("seed", 0)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")

    def split(self, name: str) -> Batch:
        values = splits(self.seq_len + 1, self.seed)[name]
        return Batch(values[:, :-1], values[:, 1:])

    def baselines(self) -> dict[str, Predictor]:
        def straight_on(batch: Batch) -> Tensor:
            x = batch.input
            return x + x.diff(dim=1, prepend=x[:, :1])

        return {"last value": lambda batch: batch.input, "straight on": straight_on, **super().baselines()}


@functools.cache
def splits(num: int, seed: int) -> dict[str, Tensor]:
    """Of each split the values, (B, num, 1)."""
    begins = 2 * torch.rand(sum(SIZES.values()), generator=torch.Generator().manual_seed(seed)) - 1
    values = fitzhugh_nagumo(begins.double(), num).float().unsqueeze(-1)
    return dict(zip(SIZES, values.split(list(SIZES.values())), strict=True))


def fitzhugh_nagumo(begin: Tensor, num: int, substeps: int = 4) -> Tensor:
    """The first `num` values of v, (B, num), from each beginning (B,)."""
    h, v = STEP / substeps, begin.numpy()
    w, values = np.zeros_like(v), [v]

    def rate(v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return v - v * v * v / 3 - w + 0.5, 0.02 * (v + 0.7 - 0.8 * w)

    for _ in range(num - 1):
        for _ in range(substeps):
            v1, w1 = rate(v, w)
            v2, w2 = rate(v + h / 2 * v1, w + h / 2 * w1)
            v3, w3 = rate(v + h / 2 * v2, w + h / 2 * w2)
            v4, w4 = rate(v + h * v3, w + h * w3)
            v, w = v + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4), w + h / 6 * (w1 + 2 * w2 + 2 * w3 + w4)
        values.append(v)
    return torch.from_numpy(np.stack(values, 1))
