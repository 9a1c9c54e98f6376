"""Just another network."""

from typing import Any

from torch import Tensor

from .cell import Cell, State


class JANETCell(Cell):
    r"""The LSTM with its forget gate alone (van der Westhuizen & Lasenby 2018, eqs. 10-13).

    .. math::
        s_t &= W_f x_t + U_f h_{t-1} + b_f \\
        g_t &= \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        h_t &= \sigma(s_t) \odot h_{t-1} + (1 - \sigma(s_t - \beta)) \odot g_t

    State: h, (B, H), the paper's c. Other arguments, shapes and errors: see `Cell`.

    Args:
        beta: how much less is forgotten than written; 1 in the paper.
    """

    gates = ("f", "g")
    keep_gate = "f"

    def __init__(self, *arguments: Any, beta: float = 1.0, **options: Any) -> None:
        self.beta = beta
        super().__init__(*arguments, **options)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        s, g = (wx + uh).chunk(2, -1)  # (B, H) each
        f, g = s.sigmoid(), g.tanh()
        h = f * h + (1 - (s - self.beta).sigmoid()) * g
        return (h,), {"f": f, "g": g}
