"""The scalar LSTM of xLSTM."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State


class SLSTMCell(Cell):
    r"""The LSTM with exponential gates, a normaliser and heads (Beck et al. 2024, eqs. 8-18).

    .. math::
        i_t, f_t, z_t, o_t &= W x_t + R h_{t-1} + b \\
        m_t &= \max(\log\sigma(f_t) + m_{t-1},\, i_t) &&\text{stabiliser; } i_t \text{ on the first step} \\
        i'_t &= e^{i_t - m_t}, \quad f'_t = e^{\log\sigma(f_t) + m_{t-1} - m_t} \\
        c_t &= f'_t \odot c_{t-1} + i'_t \odot \tanh(z_t), \quad n_t = f'_t \odot n_{t-1} + i'_t \\
        h_t &= \sigma(o_t) \odot c_t / n_t

    h does not depend on m, so that no gradient goes through it; with :math:`m_1 = i_1` in each sequence by itself n is
    never below 1.

    Args:
        heads: the units see those of their own head alone in the past.
        depth: where in a stack the layer is, from 0 to 1; it shapes the forget gate's biases at the start.

    Shapes: `weight_hh` is R, (4H, H), or with heads (heads, 4H/heads, H/heads); there is one bias, `bias_ih`. R starts
    as zero, W as N(0, 2/(5 I)), biases as zero but f's, in each head from 5 down to -7 by a power law, as in the
    authors' code. State: h, c, n, m, each (B, H). Other arguments and errors: see `Cell`.

    Raises:
        ValueError: the heads do not divide the hidden size.
    """

    gates = ("i", "f", "z", "o")
    states = ("h", "c", "n", "m")
    keep_gate, write_gate = "f", "i"
    held = (("h",),)  # c and n are to the scale of m

    def __init__(
        self, input_size: int, hidden_size: int, *arguments: Any, heads: int = 1, depth: float = 0.0, **options: Any
    ) -> None:
        if heads < 1 or hidden_size % heads:
            raise ValueError(f"heads should divide hidden_size, got {heads} and {hidden_size}")
        self.heads, self.depth = heads, depth
        super().__init__(input_size, hidden_size, *arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        size, shapes = self.hidden_size // self.heads, super().shapes()
        shapes |= {"weight_hh": (self.heads, 4 * size, size)} if self.heads > 1 else {}
        return {name: shape for name, shape in shapes.items() if name != "bias_hh"}

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "weight_ih":
            nn.init.normal_(parameter, std=math.sqrt(0.4 / max(self.input_size, 1)))
            return
        nn.init.zeros_(parameter)
        if name == "bias_ih":
            size = self.hidden_size // self.heads
            place = torch.arange(size, device=parameter.device) / max(size - 1, 1)
            with torch.no_grad():
                parameter[self.rows("f")] = (5 - 12 * place ** (0.3 + 1.3 * self.depth)).repeat(self.heads)

    def hidden_map(self, h: Tensor) -> Tensor:
        if self.heads == 1:
            return F.linear(h, self.weight_hh)
        h = h.unflatten(-1, (self.heads, -1))  # (B, heads, H / heads)
        uh = torch.einsum("...nd,nkd->...nk", h, self.weight_hh)
        return uh.unflatten(-1, (4, -1)).transpose(-3, -2).flatten(-3)  # (B, 4H), gate by gate

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c, n, m = state
        i, f, z, o = (wx + uh).chunk(4, -1)  # (B, H) each
        first, kept = n == 0, F.logsigmoid(f) + m
        m = torch.where(first, i, torch.maximum(kept, i)).detach()
        i, z, o = (i - m).exp(), z.tanh(), o.sigmoid()
        f = torch.where(first, torch.zeros_like(f), kept - m).exp()  # of nothing, on the first step
        c = f * c + i * z
        n = f * n + i
        h = o * c / n
        return (h, c, n, m), {"i": i, "f": f, "z": z, "o": o}
