"""Real-gated linear recurrent unit."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State

SPEED = 8.0
"""How much faster than by itself a unit forgets when its gate is open: c in the paper."""
RING = (0.9, 0.999)
STEEPEST = 1000.0
"""The square root's slope, where nothing is forgotten."""


class RGLRUCell(Cell):
    r"""The recurrence of Griffin (De et al. 2024, eqs. 3-6).

    .. math::
        r_t &= \sigma(W_r x_t + b_r), \quad i_t = \sigma(W_i x_t + b_i) \\
        \log a_t &= -8\, r_t \odot \mathrm{softplus}(\Lambda) \\
        h_t &= a_t \odot h_{t-1} + \sqrt{1 - a_t^2} \odot (i_t \odot x_t)

    On a sequence's first step the root is 1, as in the authors' code: the state n, 0 before a sequence and then 1,
    tells. Where :math:`a` is so near to 1 that the root's slope is over 1000, no gradient goes through the root. If x
    has another size than h, a third block of `weight_ih`, x, maps it. :math:`\Lambda` starts so that
    :math:`e^{-\mathrm{softplus}(\Lambda)}` is spread uniformly by area over the ring from 0.9 to 0.999, as there.

    Shapes: `decay` is Lambda, (H,); `weight_ih` starts as N(0, 1/I), dense where theirs may have blocks, `bias_ih` as
    zero. State: h, n, each (B, H). Arguments and errors: see `Cell`.
    """

    states = ("h", "n")
    held = (("h",),)
    has_hidden_map = False

    def __init__(self, input_size: int, hidden_size: int, *arguments: Any, **options: Any) -> None:
        self.gates = ("r", "i") if input_size == hidden_size else ("r", "i", "x")
        super().__init__(input_size, hidden_size, *arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"decay": (self.hidden_size,)}

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "decay":
            low, high = (radius**2 for radius in RING)
            square = torch.empty_like(parameter).uniform_(low, high)
            with torch.no_grad():  # softplus(decay) = -log(square) / 2
                parameter.copy_((-0.5 * square.log()).expm1().log())
        elif name == "bias_ih":
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=1 / math.sqrt(max(self.input_size, 1)))

    def input_map(self, x: Tensor) -> Tensor:
        wx = super().input_map(x)
        return wx if "x" in self.gates else torch.cat([wx, x], -1)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        h, n = state
        r, i, x = wx.chunk(3, -1)  # (B, H) each
        r, i = r.sigmoid(), i.sigmoid()
        log_a = -SPEED * r * F.softplus(self.decay)
        root = (-(2 * log_a).expm1()).clamp_min(1 / (2 * STEEPEST) ** 2).sqrt()
        h = log_a.exp() * h + torch.where(n == 0, torch.ones_like(root), root) * i * x
        return (h, torch.ones_like(n)), {"r": r, "i": i}
