"""Independently recurrent network."""

from typing import Any

from torch import Tensor, nn

from .cell import Cell, State


class IndRNNCell(Cell):
    r"""Each unit sees itself alone in the past (Li et al. 2018, eq. 4).

    .. math:: h_t = \mathrm{relu}(W x_t + b_W + u \odot h_{t-1} + b_U)

    The error of a unit decays by exactly :math:`u` per step while it is active. u starts as :math:`U(0, 2^{1/T})`, and
    stays within :math:`\pm 2^{1/T}` in training (section 4.1): no gradient grows by more than a factor of 2 in T steps.
    Where the paper clips u after each update, here u beyond the bound counts as the bound; its gradient stays what it
    is, so that it can come back.

    Args:
        t_max: T, the steps of a sequence; if None, as for ever, the bound is 1.

    Shapes: `weight_hh` is u, (H, 1). State: h, (B, H). Other arguments and errors: see `Cell`.

    Raises:
        ValueError: `t_max` is under 1.
    """

    gates = ("h",)

    def __init__(self, *arguments: Any, t_max: int | None = None, **options: Any) -> None:
        if t_max is not None and not t_max >= 1:
            raise ValueError(f"t_max must be at least 1, got {t_max}")
        self.t_max = t_max
        super().__init__(*arguments, **options)

    @property
    def bound(self) -> float:
        """2^(1/T)."""
        return 1.0 if self.t_max is None else 2 ** (1 / self.t_max)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_hh": (self.hidden_size, 1)}

    def draw(self, name: str, parameter: Tensor) -> None:
        nn.init.uniform_(parameter, 0, self.bound) if name == "weight_hh" else super().draw(name, parameter)

    def hidden_map(self, h: Tensor) -> Tensor:
        u = self.weight_hh.squeeze(-1)
        u = u + (u.clamp(-self.bound, self.bound) - u).detach()
        uh = u * h
        return uh + self.bias_hh if self.bias else uh

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        return ((wx + uh).relu(),), {}
