"""Minimal gated unit."""

from torch import Tensor

from .cell import Cell, State


class MGUCell(Cell):
    r"""The GRU with one gate for both of its own (Zhou et al. 2016, eq. 8).

    .. math::
        f_t &= \sigma(W_f x_t + U_f h_{t-1} + b_f) \\
        n_t &= \tanh(W_n x_t + f_t \odot (U_n h_{t-1} + b_{Un}) + b_{Wn}) \\
        h_t &= (1 - f_t) \odot h_{t-1} + f_t \odot n_t

    The paper has :math:`U_n (f_t \odot h_{t-1})`; here, as in torch's GRU, the gate comes after the product.

    State: h, (B, H). Arguments, shapes and errors: see `Cell`.
    """

    gates = ("f", "n")
    keep_gate = "1 - f"

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        wf, wn = wx.chunk(2, -1)  # (B, H) each
        uf, un = uh.chunk(2, -1)
        f = (wf + uf).sigmoid()
        n = (wn + f * un).tanh()
        h = (1 - f) * h + f * n
        return (h,), {"f": f, "n": n}
