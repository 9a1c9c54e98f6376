"""GRU and LSTM whose units see themselves alone in the past."""

import torch
from torch import Tensor, nn

from .cell import Cell, State


class DiagonalCell(Cell):
    """What the two share: a hidden map of one number for each gate and unit, `weight_hh`, (G*H, 1)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_hh": (len(self.gates) * self.hidden_size, 1)}

    def hidden_map(self, h: Tensor) -> Tensor:
        uh = self.weight_hh.squeeze(-1) * torch.cat([h] * len(self.gates), -1)
        return uh + self.bias_hh if self.bias else uh


class DiagonalGRUCell(DiagonalCell):
    r"""The GRU with diagonal recurrent matrices (Danieli et al. 2025, ParaGRU), step by step and exactly.

    .. math::
        r_t &= \sigma(W_r x_t + a_r \odot h_{t-1} + b_r) \\
        z_t &= \sigma(W_z x_t + a_z \odot h_{t-1} + b_z) \\
        n_t &= \tanh(W_n x_t + b_{Wn} + r_t \odot (a_n \odot h_{t-1} + b_{Un})) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot n_t

    Shapes: `weight_hh` is a, (3H, 1), and starts as torch's default. State: h, (B, H). Arguments and errors:
    see `Cell`.
    """

    gates = ("r", "z", "n")
    keep_gate = "1 - z"

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        wr, wz, wn = wx.chunk(3, -1)  # (B, H) each
        ur, uz, un = uh.chunk(3, -1)
        r, z = (wr + ur).sigmoid(), (wz + uz).sigmoid()
        n = (wn + r * un).tanh()
        h = (1 - z) * h + z * n
        return (h,), {"r": r, "z": z, "n": n}


class DiagonalLSTMCell(DiagonalCell):
    r"""The LSTM with coupled gates, peepholes and diagonal recurrent matrices (Danieli et al. 2025, ParaLSTM).

    .. math::
        f_t &= \sigma(W_f x_t + a_f \odot h_{t-1} + p_f \odot c_{t-1} + b_f) \\
        g_t &= \tanh(W_g x_t + a_g \odot h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot g_t \\
        o_t &= \sigma(W_o x_t + a_o \odot h_{t-1} + p_o \odot c_t + b_o) \\
        h_t &= o_t \odot \tanh(c_t)

    Shapes: `weight_hh` is a, (3H, 1), `weight_cf` and `weight_co` are p, (H, 1), which start as zero. State: h, c, each
    (B, H). Arguments and errors: see `Cell`.
    """

    gates = ("f", "g", "o")
    states = ("h", "c")
    keep_gate = "f"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_cf": (self.hidden_size, 1), "weight_co": (self.hidden_size, 1)}

    def draw(self, name: str, parameter: Tensor) -> None:
        nn.init.zeros_(parameter) if name.startswith("weight_c") else super().draw(name, parameter)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c = state
        f, g, o = (wx + uh).chunk(3, -1)  # (B, H) each
        f = (f + self.weight_cf.squeeze(-1) * c).sigmoid()
        g = g.tanh()
        c = f * c + (1 - f) * g
        o = (o + self.weight_co.squeeze(-1) * c).sigmoid()
        h = o * c.tanh()
        return (h, c), {"f": f, "g": g, "o": o}
