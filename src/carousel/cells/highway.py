"""Recurrent highway network."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State


class HighwayCell(Cell):
    r"""Highway layers in each step, with the carry gate tied to 1 - t (Zilly et al. 2017, eqs. 7-9).

    .. math::
        n_l &= \tanh(W_n x_t [l = 1] + U_n^l s_{l-1} + b_n^l) \\
        t_l &= \sigma(W_t x_t [l = 1] + U_t^l s_{l-1} + b_t^l) \\
        s_l &= t_l \odot n_l + (1 - t_l) \odot s_{l-1}, \qquad s_0 = h_{t-1}, \quad h_t = s_L

    Args:
        depth: L, the layers.

    Shapes: beyond the first layer `weight_ss` (L - 1, 2H, H) and `bias_ss` (L - 1, 2H). Parameters start
    as U(-0.04, 0.04), whatever their size, but t's biases as -2, as in the authors' code, and `bias_hh` as zero, since
    there it is one with `bias_ih`. State: h, (B, H). Other arguments, shapes and errors: see `Cell`. The gates are the
    first layer's.

    Raises:
        ValueError: `depth` is under 1.
    """

    gates = ("n", "t")

    def __init__(self, *arguments: Any, depth: int = 1, **options: Any) -> None:
        if depth < 1:
            raise ValueError(f"depth should be at least 1, got {depth}")
        self.depth = depth
        self.keep_gate = "1 - t" if depth == 1 else None  # of several layers no one gate keeps the state
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        more, H, shapes = self.depth - 1, self.hidden_size, super().shapes()
        shapes |= {"weight_ss": (more, 2 * H, H)} if more else {}
        return shapes | ({"bias_ss": (more, 2 * H)} if more and self.bias else {})

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "bias_hh":
            nn.init.zeros_(parameter)
            return
        nn.init.uniform_(parameter, -0.04, 0.04)
        if name.startswith("bias"):
            nn.init.constant_(parameter[..., self.rows("t")], -2.0)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        h, gates = self._layer(wx + uh, h)
        for k in range(self.depth - 1):
            h, _ = self._layer(F.linear(h, self.weight_ss[k], self.bias_ss[k] if self.bias else None), h)
        return (h,), gates

    def _layer(self, a: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        n, t = a.chunk(2, -1)  # (B, H) each
        n, t = n.tanh(), t.sigmoid()
        return t * n + (1 - t) * h, {"n": n, "t": t}
