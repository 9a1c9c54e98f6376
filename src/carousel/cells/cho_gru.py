"""The gated recurrent unit as it was first."""

import torch.nn.functional as F
from torch import Tensor

from .cell import Cell, State


class ChoGRUCell(Cell):
    r"""The GRU of Cho et al. 2014 (eqs. 5-8), with the reset gate applied before the product: Keras'
    `reset_after=False`, and the default of ONNX (`linear_before_reset=0`).

    .. math::
        r_t &= \sigma(W_r x_t + b_{Wr} + U_r h_{t-1} + b_{Ur}) \\
        z_t &= \sigma(W_z x_t + b_{Wz} + U_z h_{t-1} + b_{Uz}) \\
        n_t &= \tanh(W_n x_t + b_{Wn} + U_n (r_t \odot h_{t-1}) + b_{Un}) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Parameters, their shapes and their start are those of `GRUCell`, whose weights load; it computes something else with
    them.

    State: h, (B, H). Arguments, shapes and errors: see `Cell`.
    """

    gates = ("r", "z", "n")
    keep_gate = "z"

    def hidden_map(self, h: Tensor) -> Tensor:
        return self._map(h, slice(2 * self.hidden_size))

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        wr, wz, wn = wx.chunk(3, -1)  # (B, H) each
        ur, uz = uh.chunk(2, -1)
        r, z = (wr + ur).sigmoid(), (wz + uz).sigmoid()
        n = (wn + self._map(r * h, self.rows("n"))).tanh()
        h = (1 - z) * n + z * h
        return (h,), {"r": r, "z": z, "n": n}

    def _map(self, h: Tensor, rows: slice) -> Tensor:
        return F.linear(h, self.weight_hh[rows], self.bias_hh[rows] if self.bias else None)
