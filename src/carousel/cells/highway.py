"""Recurrent highway network."""

from torch import Tensor

from .cell import Cell, State


class HighwayCell(Cell):
    r"""One highway layer per step, with the carry gate tied to 1 - t (Zilly et al. 2017, eqs. 7-9, depth 1).

    .. math::
        n_t &= \tanh(W_n x_t + U_n h_{t-1} + b_n) \\
        t_t &= \sigma(W_t x_t + U_t h_{t-1} + b_t) \\
        h_t &= t_t \odot n_t + (1 - t_t) \odot h_{t-1}

    State: h, (B, H). Arguments, shapes and errors: see `Cell`.
    """

    gates = ("n", "t")
    keep_gate = "1 - t"

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        n, t = (wx + uh).chunk(2, -1)  # (B, H) each
        n, t = n.tanh(), t.sigmoid()
        h = t * n + (1 - t) * h
        return (h,), {"n": n, "t": t}
