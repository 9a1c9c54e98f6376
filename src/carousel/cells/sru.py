"""Simple recurrent unit."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .cell import Cell, State


class SRUCell(Cell):
    r"""The SRU (Lei et al. 2018, eqs. 1-4): each unit sees its own cell state alone, and x goes past it on a highway.

    .. math::
        f_t &= \sigma(W_f x_t + v_f \odot c_{t-1} + b_f) \\
        r_t &= \sigma(W_r x_t + v_r \odot c_{t-1} + b_r) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot W_c x_t \\
        h_t &= r_t \odot c_t + (1 - r_t) \odot \alpha x_t

    As in the paper (section 3.2) :math:`\alpha = \sqrt{1 + 2 e^{b_r}}` at the start keeps the variance of x; weights
    are drawn from U(-sqrt(3/I), sqrt(3/I)), those of the gates, and v, smaller by sqrt(1/2). If x has another size
    than h, a fourth block of `weight_ih`, s, maps it.

    Args:
        highway_bias: what :math:`b_r` starts with.

    Shapes: `weight_cf` and `weight_cr` are v, (H, 1); `bias_ih` that of the blocks. State: h, c, each (B, H), of which
    nothing reads h. Other arguments and errors: see `Cell`.
    """

    states = ("h", "c")
    keep_gate = "f"
    has_hidden_map = False

    def __init__(
        self, input_size: int, hidden_size: int, *arguments: Any, highway_bias: float = -2.0, **options: Any
    ) -> None:
        self.gates = ("c", "f", "r") if input_size == hidden_size else ("c", "f", "r", "s")
        self.highway_bias = highway_bias
        super().__init__(input_size, hidden_size, *arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_cf": (self.hidden_size, 1), "weight_cr": (self.hidden_size, 1)}

    def draw(self, name: str, parameter: Tensor) -> None:
        bound = math.sqrt(3 / max(self.input_size, 1)) if name == "weight_ih" else math.sqrt(1.5)
        nn.init.zeros_(parameter) if name == "bias_ih" else nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            if name == "weight_ih":
                for gate in "fr":
                    parameter[self.rows(gate)] *= math.sqrt(0.5)
            elif name == "bias_ih":
                parameter[self.rows("r")] = self.highway_bias

    def input_map(self, x: Tensor) -> Tensor:
        wx = super().input_map(x)
        return wx if "s" in self.gates else torch.cat([wx, x], -1)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c = state
        new, f, r, s = wx.chunk(4, -1)  # (B, H) each
        f = (f + self.weight_cf.squeeze(-1) * c).sigmoid()
        r = (r + self.weight_cr.squeeze(-1) * c).sigmoid()
        c = f * c + (1 - f) * new
        h = r * c + (1 - r) * math.sqrt(1 + 2 * math.exp(self.highway_bias)) * s
        return (h, c), {"f": f, "r": r}
