"""Long short-term memory."""

from torch import Tensor, nn

from .cell import Cell, State


class LSTMCell(Cell):
    r"""The LSTM of torch: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000 (eqs. 3-6).

    .. math::
        i_t &= \sigma(W_i x_t + b_{Wi} + U_i h_{t-1} + b_{Ui})   &&\text{input gate: what to write} \\
        f_t &= \sigma(W_f x_t + b_{Wf} + U_f h_{t-1} + b_{Uf})   &&\text{forget gate: what to keep} \\
        g_t &= \tanh (W_g x_t + b_{Wg} + U_g h_{t-1} + b_{Ug})   &&\text{candidate} \\
        o_t &= \sigma(W_o x_t + b_{Wo} + U_o h_{t-1} + b_{Uo})   &&\text{output gate: what to show} \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t                 &&\text{the constant error carousel} \\
        h_t &= o_t \odot \tanh(c_t)

    The error on c flows back as :math:`\partial c_t/\partial c_{t-1} = f_t` plus what goes through the gates.

    Often taught as :math:`f_t = \sigma(W_f \cdot [h_{t-1}, x_t] + b_f)` with :math:`\tilde C_t` for g: there
    :math:`W_f` is our `[weight_hh | weight_ih]` side by side, in the rows of f, and :math:`b_f` is the sum of the
    two biases, which torch keeps apart.

    State: h, c, each (B, H). Arguments, shapes and errors: see `Cell`.
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    keep_gate, write_gate = "f", "i"
    projectable = True
    torch_modules = (nn.LSTMCell, nn.LSTM)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c = state
        i, f, g, o = (wx + uh).chunk(4, -1)  # (B, H) each
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        return (h, c), {"i": i, "f": f, "g": g, "o": o}
