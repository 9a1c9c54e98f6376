"""The validation loss of the LSTM of 1997 on the adding problem and on temporal order."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...cells.cell import Cell
from .. import figures
from ..records import Tables
from ..style import looks
from ..tasks import Predictor, Task, TemporalOrder, always
from .claim import Claim, about, at_least, column, sequences_until_solved

PAPER = "Hochreiter & Schmidhuber 1997"


@dataclass(frozen=True)
class Start:
    """The paper's initialisation: every weight from U(-bound, bound), and the biases of a gate given, one for each
    block of cells.

    Raises:
        ValueError: the cells cannot be divided among so many blocks.
    """

    bound: float
    gate: str
    biases: list[float]

    def __call__(self, cell: Cell) -> None:
        size, rest = divmod(cell.hidden_size, len(self.biases))
        if rest:
            raise ValueError(f"{cell.hidden_size} cells cannot be divided among {len(self.biases)} blocks")
        for parameter in cell.parameters():
            torch.nn.init.uniform_(parameter, -self.bound, self.bound)
        with torch.no_grad():
            cell.bias_hh[cell.rows(self.gate)] = 0
            cell.bias_ih[cell.rows(self.gate)] = torch.tensor(self.biases).repeat_interleave(size).to(cell.bias_ih)


class Logistic(Task):
    """A choice between classes by logistic output units, and half the sum of their squared errors as the loss."""

    baseline_loss = None

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.sigmoid() - F.one_hot(target, self.output_size)).square().sum(-1).mean() / 2

    def baselines(self) -> dict[str, Predictor]:
        share = self.training_targets().bincount(minlength=self.output_size) / len(self.training_targets())
        return {"best constant": always(self, share.clamp(1e-6, 1 - 1e-6).logit())}


class TemporalOrder1997(Logistic, TemporalOrder):
    """Temporal order with the output units and the loss of the paper."""


SHARED = (
    "Gates are each cell's own, in the paper the two cells of a block share theirs; cells squash by tanh, there by "
    "other sigmoids. Solved when at most 1 of 2560 new sequences is wrong, looked at every 1000, in the paper when the "
    "last 2000 were right."
)
ADDING, ORDER = ({"task": name} for name in ("adding_1997", "TemporalOrder1997"))
CLAIMS = [
    Claim(
        "adding, T = 100 to 110: sequences until solved", "74,000", f"{PAPER}, section 5.4", ADDING,
        sequences_until_solved, about(74_000, 2), SHARED,
    ),
    Claim(
        "adding, T = 100 to 110: at most 1 of 2560 wrong", "0.9996", f"{PAPER}, section 5.4", ADDING,
        column("test/within_0.04"), at_least(0.998), "On 2560 sequences of their own; of these 5 may be wrong.",
    ),
    Claim(
        "temporal order 6a: sequences until solved", "31,390", f"{PAPER}, section 5.6", ORDER,
        sequences_until_solved, about(31_390, 2), f"T = 100, in the paper 100 to 110. {SHARED}",
    ),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return figures.loss_curves(tables.loss_curves, tables.results, looks(tables.results))
