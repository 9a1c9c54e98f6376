"""Linear recurrent unit."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cell import Cell, State


class LRUCell(Cell):
    r"""A linear recurrence of complex numbers, each turned and shrunk by a number of its own (Orvieto et al. 2023, eqs.
    2, 5 and 8).

    .. math::
        s_t &= \lambda \odot s_{t-1} + e^{\log\gamma} \odot B x_t, \qquad \lambda = e^{-e^{\nu} + i e^{\theta}} \\
        y_t &= \mathrm{Re}(C s_t) + D x_t

    Args:
        r_min, r_max: the ring on which :math:`\lambda` starts, uniformly by area.
        max_phase: of :math:`\lambda` at the start.

    Shapes: `weight_ih` holds the real part of B, its imaginary part and D, (3H, I), and `bias_ih` starts as zero (the
    paper has none); `weight_re` and `weight_im` hold C, (H, H); `nu`, `theta` and `log_gamma` are (H,). State: y, and
    the real and imaginary part of s, each (B, H); nothing reads the old y. Other arguments and errors: see `Cell`.
    """

    gates = ("re", "im", "d")
    states = ("y", "re", "im")
    held = (("y",), ("re", "im"))
    has_hidden_map = False

    def __init__(
        self, *arguments: Any, r_min: float = 0.0, r_max: float = 1.0, max_phase: float = 2 * math.pi, **options: Any
    ) -> None:
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        H, shapes = self.hidden_size, super().shapes()
        shapes |= {"weight_re": (H, H), "weight_im": (H, H)}
        return shapes | dict.fromkeys(("nu", "theta", "log_gamma"), (H,))

    @torch.no_grad()
    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "nu":
            square = torch.empty_like(parameter).uniform_(self.r_min**2, self.r_max**2)
            parameter.copy_((-0.5 * square.log()).log())
        elif name == "theta":
            parameter.uniform_().mul_(self.max_phase).log_()
        elif name == "log_gamma":  # drawn last: so that |s| is as large as |B x|
            parameter.copy_((-(-2 * self.nu.exp()).expm1()).log() / 2)
        elif name == "weight_ih":
            parameter.normal_(std=1 / math.sqrt(2 * max(self.input_size, 1)))
            parameter[self.rows("d")] *= math.sqrt(2)
        elif name == "bias_ih":
            parameter.zero_()
        else:
            parameter.normal_(std=1 / math.sqrt(max(self.hidden_size, 1)))

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, re, im = state
        bx_re, bx_im, dx = wx.chunk(3, -1)  # (B, H) each
        size, angle, gamma = (-self.nu.exp()).exp(), self.theta.exp(), self.log_gamma.exp()  # (H,)
        cos, sin = size * angle.cos(), size * angle.sin()
        re, im = cos * re - sin * im + gamma * bx_re, cos * im + sin * re + gamma * bx_im
        y = F.linear(re, self.weight_re) - F.linear(im, self.weight_im) + dx
        return (y, re, im), {}
