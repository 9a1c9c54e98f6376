"""Closed-form continuous-time network."""

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

    Parameters start as Glorot & Bengio's, biases as zero. State: h, (B, H). Other arguments, shapes and errors: see
    `Cell`; with `timed`, `weight_ih` has a column less than x has features.
    """

    gates = ("f", "g", "a", "b")

    def __init__(self, *arguments: Any, gated: bool = True, **options: Any) -> None:
        self.gated = gated
        super().__init__(*arguments, **options)

    def draw(self, name: str, parameter: Tensor) -> None:
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            return
        for gate in self.gates:
            nn.init.xavier_uniform_(parameter[self.rows(gate)])

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        wx, elapsed = self.apart(wx)
        f, g, a, b = (wx + uh).chunk(4, -1)  # (B, H) each
        f, g, s = f.tanh(), g.tanh(), (elapsed * a + b).sigmoid()
        h = (1 - s) * f + s * g if self.gated else f + s * g
        return (h,), {"f": f, "g": g, "s": s}
