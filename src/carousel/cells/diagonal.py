"""GRU and LSTM whose units see themselves alone in the past."""

import math

import torch
from torch import Tensor, nn

from .cell import Cell, State, signed


class DiagonalCell(Cell):
    """What the two share: a hidden map of one number for each gate and unit, `weight_hh`, (G*H, 1), and the start.

    As in the authors' code with one head, W starts as Glorot & Bengio's, gate by gate, what multiplies a state as
    N(0, 4/(5 H)), and biases as zero, but that of the gate between old and new state, which falls from 0 to -1 over the
    units.
    """

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_hh": (len(self.gates) * self.hidden_size, 1)}

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "weight_ih":
            bound = math.sqrt(6 / max(self.input_size + self.hidden_size, 1))
            nn.init.uniform_(parameter, -bound, bound)
        elif name.startswith("weight"):
            nn.init.normal_(parameter, std=math.sqrt(0.8 / max(self.hidden_size, 1)))
        else:
            nn.init.zeros_(parameter)
        if name == "bias_ih":
            fall = torch.linspace(0, -1, self.hidden_size, device=parameter.device)
            with torch.no_grad():
                parameter[self.rows(signed(str(self.keep_gate))[0])] = fall.to(parameter.dtype)

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

    Shapes: `weight_hh` is a, (3H, 1). State: h, (B, H). Start: see `DiagonalCell`; arguments and errors: see `Cell`.
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

    Shapes: `weight_hh` is a, (3H, 1), `weight_cf` and `weight_co` are p, (H, 1). State: h, c, each (B, H). Start: see
    `DiagonalCell`; arguments and errors: see `Cell`.
    """

    gates = ("f", "g", "o")
    states = ("h", "c")
    keep_gate = "f"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"weight_cf": (self.hidden_size, 1), "weight_co": (self.hidden_size, 1)}

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c = state
        f, g, o = (wx + uh).chunk(3, -1)  # (B, H) each
        f = (f + self.weight_cf.squeeze(-1) * c).sigmoid()
        g = g.tanh()
        c = f * c + (1 - f) * g
        o = (o + self.weight_co.squeeze(-1) * c).sigmoid()
        h = o * c.tanh()
        return (h, c), {"f": f, "g": g, "o": o}
