"""Independently recurrent network."""

from torch import Tensor

from .cell import Cell, State


class IndRNNCell(Cell):
    r"""Each unit sees itself alone in the past (Li et al. 2018, eq. 4).

    .. math:: h_t = \mathrm{relu}(W x_t + b_W + u \odot h_{t-1} + b_U)

    The error of a unit decays by exactly :math:`u` per step while it is active. u starts as torch's default;
    `initialization.RecurrentUniform` starts it as the paper, which also keeps :math:`|u| \le 2^{1/T}` in training.

    Shapes: `weight_hh` is u, (H, 1). State: h, (B, H). Arguments and errors: see `Cell`.
    """

    gates = ("h",)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_hh": (self.hidden_size, 1)}

    def hidden_map(self, h: Tensor) -> Tensor:
        uh = self.weight_hh.squeeze(-1) * h
        return uh + self.bias_hh if self.bias else uh

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        return ((wx + uh).relu(),), {}
