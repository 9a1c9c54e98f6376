"""Gated recurrent unit."""

from torch import Tensor, nn

from .cell import Cell, State


class GRUCell(Cell):
    r"""The GRU of torch: Cho et al. 2014, with the reset gate applied after the product, as in cuDNN.

    .. math::
        r_t &= \sigma(W_r x_t + b_{Wr} + U_r h_{t-1} + b_{Ur})          &&\text{reset gate} \\
        z_t &= \sigma(W_z x_t + b_{Wz} + U_z h_{t-1} + b_{Uz})          &&\text{update gate: what to keep} \\
        n_t &= \tanh(W_n x_t + b_{Wn} + r_t \odot (U_n h_{t-1} + b_{Un})) &&\text{candidate} \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Cho et al. (eqs. 5-8) compute :math:`U (r_t \odot h_{t-1})`; the form above needs a single product per step.
    Some texts, among them the popular introduction in `[h, x]` notation, swap the roles of z and 1-z.

    State: h, (B, H). Arguments, shapes and errors: see `Cell`.
    """

    gates = ("r", "z", "n")
    keep_gate = "z"
    torch_modules = (nn.GRUCell, nn.GRU)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        wr, wz, wn = wx.chunk(3, -1)  # (B, H) each
        ur, uz, un = uh.chunk(3, -1)
        r, z = (wr + ur).sigmoid(), (wz + uz).sigmoid()
        n = (wn + r * un).tanh()
        h = (1 - z) * n + z * h
        return (h,), {"r": r, "z": z, "n": n}
