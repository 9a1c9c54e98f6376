"""Long expressive memory."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .cell import Cell, State


class LEMCell(Cell):
    r"""Two states on time scales of their own, which are gated (Rusch et al. 2022, eq. 3).

    .. math::
        \Delta^1_t &= \Delta t\, \sigma(V_1 x_t + W_1 y_{t-1} + b_1), \quad
        \Delta^2_t = \Delta t\, \sigma(V_2 x_t + W_2 y_{t-1} + b_2) \\
        z_t &= (1 - \Delta^1_t) \odot z_{t-1} + \Delta^1_t \odot \tanh(V_z x_t + W_z y_{t-1} + b_z) \\
        y_t &= (1 - \Delta^2_t) \odot y_{t-1} + \Delta^2_t \odot \tanh(V_y x_t + W_y z_t + b_y)

    Args:
        dt: :math:`\Delta t`, the longest time step.

    Shapes: `weight_ih` (4H, I) and `bias_ih`, in the order of `gates`; `weight_hh` (3H, H) and `bias_hh` for what sees
    y; `weight_zh` (H, H) is :math:`W_y`. All start as U(-1/sqrt(H), 1/sqrt(H)), as in the authors' code. State: y, z,
    each (B, H). Other arguments and errors: see `Cell`.
    """

    gates = ("d1", "d2", "z", "y")
    states = ("y", "z")

    def __init__(self, *arguments: Any, dt: float = 1.0, **options: Any) -> None:
        self.dt = dt
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        H, shapes = self.hidden_size, super().shapes()
        shapes |= {"weight_hh": (3 * H, H), "weight_zh": (H, H)}
        return shapes | ({"bias_hh": (3 * H,)} if self.bias else {})

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        y, z = state
        w1, w2, wz, wy = wx.chunk(4, -1)  # (B, H) each
        u1, u2, uz = uh.chunk(3, -1)
        d1, d2 = self.dt * (w1 + u1).sigmoid(), self.dt * (w2 + u2).sigmoid()
        z = (1 - d1) * z + d1 * (wz + uz).tanh()
        y = (1 - d2) * y + d2 * (wy + F.linear(z, self.weight_zh)).tanh()
        return (y, z), {"d1": d1, "d2": d2}
