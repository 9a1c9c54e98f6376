"""A gated network of few parameters."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State


class FastGRNNCell(Cell):
    r"""One matrix for gate and candidate (Kusupati et al. 2018, eqs. 4-6).

    .. math::
        z_t &= \sigma(W x_t + U h_{t-1} + b_z), \qquad n_t = \tanh(W x_t + U h_{t-1} + b_n) \\
        h_t &= (\zeta (1 - z_t) + \nu) \odot n_t + z_t \odot h_{t-1}

    Args:
        rank: if not 0, :math:`U = U_1 U_2^\top` with so many columns each.

    Shapes: `weight_ih` (H, I), `weight_hh` (H, H), or with a rank `weight_hh` (H, r), U_1, and `weight_rh` (r, H), U_2;
    `bias_ih` (2H,); `zeta` and `nu` (1,), which go through a sigmoid. As in the authors' code matrices start as
    N(0, 0.01), whatever their size, biases and zeta as 1, and nu as -4. State: h, (B, H). Other arguments and errors:
    see `Cell`.

    Raises:
        ValueError: `rank` is negative, or not below the hidden size.
    """

    gates = ("z", "n")
    keep_gate = "z"

    def __init__(self, input_size: int, hidden_size: int, *arguments: Any, rank: int = 0, **options: Any) -> None:
        if not 0 <= rank < max(hidden_size, 1):
            raise ValueError(f"rank should be at least 0, for none, and below hidden_size, got {rank}")
        self.rank = rank
        super().__init__(input_size, hidden_size, *arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        H, r = self.hidden_size, self.rank
        shapes = super().shapes() | {"weight_ih": (H, self.input_size), "weight_hh": (H, r or H)}
        shapes |= ({"weight_rh": (r, H)} if r else {}) | {"zeta": (1,), "nu": (1,)}
        return {name: shape for name, shape in shapes.items() if name != "bias_hh"}

    def draw(self, name: str, parameter: Tensor) -> None:
        if "weight" in name:
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.constant_(parameter, -4.0 if name == "nu" else 1.0)

    def input_map(self, x: Tensor) -> Tensor:
        wx = F.linear(x, self.weight_ih)
        wx = torch.cat([wx, wx], -1)
        return wx + self.bias_ih if self.bias else wx

    def hidden_map(self, h: Tensor) -> Tensor:
        return F.linear(F.linear(h, self.weight_rh) if self.rank else h, self.weight_hh)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        wz, wn = wx.chunk(2, -1)  # (B, H) each
        z, n = (wz + uh).sigmoid(), (wn + uh).tanh()
        h = (self.zeta.sigmoid() * (1 - z) + self.nu.sigmoid()) * n + z * h
        return (h,), {"z": z, "n": n}
