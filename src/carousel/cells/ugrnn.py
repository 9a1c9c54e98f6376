"""Update gate recurrent network."""

from torch import Tensor

from .cell import Cell, State


class UGRNNCell(Cell):
    r"""The vanilla network with one gate that keeps (Collins et al. 2017, eqs. 9-11).

    .. math::
        n_t &= \tanh(W_n x_t + U_n h_{t-1} + b_n), \qquad g_t = \sigma(W_g x_t + U_g h_{t-1} + b_g) \\
        h_t &= g_t \odot h_{t-1} + (1 - g_t) \odot n_t

    State: h, (B, H). Arguments, shapes and errors: see `Cell`.
    """

    gates = ("n", "g")
    keep_gate = "g"

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        n, g = (wx + uh).chunk(2, -1)  # (B, H) each
        n, g = n.tanh(), g.sigmoid()
        h = g * h + (1 - g) * n
        return (h,), {"n": n, "g": g}
