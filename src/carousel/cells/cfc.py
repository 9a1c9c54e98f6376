"""Closed-form continuous-time network."""

import math
from typing import Any

from torch import Tensor, nn

from .cell import State
from .elapsed import TimedCell


class CfCCell(TimedCell):
    r"""The CfC (Hasani et al. 2022, eq. 10) without a backbone: two candidates, and a gate on time between them.

    .. math::
        f_t &= \tanh(W_f [x_t, h_{t-1}]), \quad g_t = \tanh(W_g [x_t, h_{t-1}]) \\
        s_t &= \sigma(\Delta_t \odot W_a [x_t, h_{t-1}] + W_b [x_t, h_{t-1}]) \\
        h_t &= (1 - s_t) \odot f_t + s_t \odot g_t

    Args:
        timed: whether the last feature of x is :math:`\Delta_t`, the time since the step before; otherwise it is 1.
        gated: if not, :math:`h_t = f_t + s_t \odot g_t`.

    As in the authors' code (ncps) the matrices of each gate start as Glorot & Bengio's of [x, h], and biases as
    nn.Linear's, all of it in `bias_ih`. State: h, (B, H). Other arguments, shapes and errors: see `Cell`; with `timed`,
    `weight_ih` has a column less than x has features.
    """

    gates = ("f", "g", "a", "b")

    def __init__(self, *arguments: Any, gated: bool = True, **options: Any) -> None:
        self.gated = gated
        super().__init__(*arguments, **options)

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "bias_hh":
            nn.init.zeros_(parameter)
            return
        fan_in = max(self.input_size - self.timed + self.hidden_size, 1)
        bound = 1 / math.sqrt(fan_in) if name == "bias_ih" else math.sqrt(6 / (fan_in + self.hidden_size))
        nn.init.uniform_(parameter, -bound, bound)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        wx, elapsed = self.apart(wx)
        f, g, a, b = (wx + uh).chunk(4, -1)  # (B, H) each
        f, g, s = f.tanh(), g.tanh(), (elapsed * a + b).sigmoid()
        h = (1 - s) * f + s * g if self.gated else f + s * g
        return (h,), {"f": f, "g": g, "s": s}
