"""The LSTM whose recurrent matrix depends on the input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State


class MultiplicativeLSTMCell(Cell):
    r"""The multiplicative LSTM (Krause et al. 2016, eqs. 12-17): an LSTM that sees m in place of h.

    .. math::
        m_t &= (W_m x_t + b_m) \odot (U_m h_{t-1}) \\
        i_t, f_t, o_t &= \sigma(W x_t + b_W + U m_t + b_U), \qquad g_t = \tanh(W_g x_t + b_{Wg} + U_g m_t + b_{Ug}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t)

    Shapes: `weight_ih` (5H, I), m last, `weight_mh` (H, H) is U_m, `weight_hh` (4H, H) and `bias_hh` (4H,) act on m.
    The four matrices, that of m in `weight_ih` apart from the rest of it, start as orthogonal ones, biases as zero but
    f's as 3, as in the authors' code. State: h, c, each (B, H). Arguments and errors: see `Cell`.
    """

    gates = ("i", "f", "g", "o", "m")
    states = ("h", "c")
    keep_gate, write_gate = "f", "i"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        H, shapes = self.hidden_size, super().shapes()
        shapes |= {"weight_hh": (4 * H, H), "weight_mh": (H, H)}
        return shapes | ({"bias_hh": (4 * H,)} if self.bias else {})

    def draw(self, name: str, parameter: Tensor) -> None:
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            if name == "bias_ih":
                nn.init.constant_(parameter[self.rows("f")], 3.0)
        elif name.startswith("weight"):
            for matrix in parameter.detach().split(4 * self.hidden_size):
                drawn = torch.empty_like(matrix, dtype=torch.promote_types(matrix.dtype, torch.float32))
                matrix.copy_(nn.init.orthogonal_(drawn))  # which it cannot do in half precision
        else:
            super().draw(name, parameter)

    def hidden_map(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight_mh)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c = state
        wx, m = wx.split([4 * self.hidden_size, self.hidden_size], -1)  # (B, 4H) and (B, H)
        m = m * uh
        i, f, g, o = (wx + F.linear(m, self.weight_hh, self.bias_hh)).chunk(4, -1)  # (B, H) each
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        return (h, c), {"i": i, "f": f, "g": g, "o": o, "m": m}
