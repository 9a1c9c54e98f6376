"""The accuracy of each model on parity, on sequences more than six times as long as those of training."""

from matplotlib.figure import Figure
from torch import Tensor

from ...cells import MinGRUCell
from ...cells.cell import State
from .. import scores
from ..records import Tables
from ..style import looks
from .claim import Claim, at_least, at_most, column, scaled

PAPER = "Grazzi et al. 2025"


class SignedMinGRUCell(MinGRUCell):
    r"""A minGRU whose factor on the old state is in (-1, 1) in place of (0, 1), as Grazzi et al. 2025 change Mamba's:

    .. math:: h_t = (1 - 2 z_t) \odot h_{t-1} + z_t \odot \tilde h_t
    """

    keep_gate = None

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        z, n = wx.chunk(2, -1)  # (B, H) each
        z, n = z.sigmoid(), self._new(n)
        h = (1 - 2 * z) * h + z * n
        return (h,), {"z": z, "n": n}


SHARED = (
    "The parity so far is asked at every step of 40, and scored at all of 256; in the paper at the end of sequences of "
    "3 to 40, and 40 to 256 steps, of the best of 3 seeds."
)
SIGN = "Our linear cell is a minGRU, the paper's a Mamba."
SIGNED = {"model": "SignedMinGRUCell"}
CLAIMS = [
    Claim("sLSTM: scaled accuracy", "1.000", PAPER, {"model": "slstm"}, scaled(2), at_least(0.95), SHARED),
    Claim("linear, diagonal, gates in (0, 1): scaled accuracy", "0.000", PAPER, {"model": "min_gru"}, scaled(2),
          at_most(0.2), f"{SIGN} Steps that are as short as in training count as well."),
    Claim("linear, diagonal, gates in (-1, 1): scaled accuracy", "1.000", PAPER, SIGNED, scaled(2),
          at_least(0.95), SIGN),
    Claim("LSTM: accuracy, in percent", "100", "Delétang et al. 2023", {"model": "lstm"},
          lambda tables: 100 * column("test/accuracy")(tables), at_least(99),
          "There 256 units, and up to 1,000,000 training steps with the answer at the end alone."),
    Claim("RNN: accuracy, in percent", "100", "Delétang et al. 2023", {"model": "rnn"},
          lambda tables: 100 * column("test/accuracy")(tables), at_least(99), "As above."),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
