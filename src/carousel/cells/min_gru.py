"""Recurrent networks whose gates do not see the state."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State

CANDIDATES = ("positive", "identity")


class MinCell(Cell):
    """What MinGRU and MinLSTM share: no hidden map, a candidate without a squashing function, and nn.Linear's start.

    Raises:
        ValueError: `candidate` is neither "positive" nor "identity".
    """

    has_hidden_map = False

    def __init__(self, *arguments: Any, candidate: str = "positive", **options: Any) -> None:
        if candidate not in CANDIDATES:
            raise ValueError(f"candidate should be one of {', '.join(CANDIDATES)}, got {candidate!r}")
        self.candidate = candidate
        super().__init__(*arguments, **options)

    def draw(self, name: str, parameter: Tensor) -> None:
        bound = 1 / math.sqrt(max(self.input_size, 1))
        nn.init.uniform_(parameter, -bound, bound)

    def _new(self, a: Tensor) -> Tensor:
        """The candidate; a + 1/2 above zero and sigmoid(a) below is what can be done in log space as well."""
        return a if self.candidate == "identity" else torch.where(a >= 0, a + 0.5, a.sigmoid())


class MinGRUCell(MinCell):
    r"""The minGRU (Feng et al. 2024, section 3.1): what is kept does not depend on the state.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) \\
        \tilde h_t &= g(W_h x_t + b_h) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    Args:
        candidate: "positive", g(a) = a + 1/2 from 0 on and sigmoid(a) below, as in the paper's log-space form; or
            "identity", g(a) = a, as in its plain form.

    Parameters: `weight_ih` and `bias_ih` alone. State: h, (B, H). Other arguments, shapes and errors: see `Cell`.
    """

    gates = ("z", "n")
    keep_gate = "1 - z"

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        z, n = wx.chunk(2, -1)  # (B, H) each
        z, n = z.sigmoid(), self._new(n)
        h = (1 - z) * h + z * n
        return (h,), {"z": z, "n": n}


class MinLSTMCell(MinCell):
    r"""The minLSTM (Feng et al. 2024, section 3.2), whose forget and input gate add up to one.

    .. math::
        f_t &= \sigma(W_f x_t + b_f), \quad i_t = \sigma(W_i x_t + b_i) \\
        f'_t &= f_t / (f_t + i_t) = \sigma(\log f_t - \log i_t), \quad i'_t = 1 - f'_t \\
        \tilde h_t &= g(W_h x_t + b_h) \\
        h_t &= f'_t \odot h_{t-1} + i'_t \odot \tilde h_t

    By the difference of logarithms it is a number where both gates are closed, too.

    Args:
        candidate: as in `MinGRUCell`.

    Parameters: `weight_ih` and `bias_ih` alone. State: h, (B, H). Other arguments, shapes and errors: see `Cell`.
    """

    gates = ("f", "i", "n")
    keep_gate, write_gate = "f", "i"
    normalised = True

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        f, i, n = wx.chunk(3, -1)  # (B, H) each
        f, n = (F.softplus(-i) - F.softplus(-f)).sigmoid(), self._new(n)
        i = 1 - f
        h = f * h + i * n
        return (h,), {"f": f, "i": i, "n": n}
