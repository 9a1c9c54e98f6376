"""The validation loss of the LSTM of 1997 on the adding problem and on temporal order."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...cells.cell import Cell
from ..tasks import Predictor, Task, TemporalOrder, always
from .claim import Claim, about, at_least, column, loss_curves, sequences_until_solved

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


def solved(what: str, number: int, section: str, where: Mapping[str, object], why: str) -> Claim:
    """After so many sequences."""
    return Claim(
        f"{what}: sequences until solved", f"{number:,}", f"{PAPER}, section {section}", where,
        sequences_until_solved, about(number, 2), why,
    )  # fmt: skip


def right(what: str, score: str, section: str, where: Mapping[str, object]) -> Claim:
    """By then, or at last."""
    return Claim(
        f"{what}: at most 1 of 2560 wrong", "0.9996", f"{PAPER}, section {section}", where,
        column(f"test/{score}"), at_least(0.998), "On 2560 sequences of their own; of these 5 may be wrong.",
    )  # fmt: skip


CLAIMS = [
    solved("adding, T = 100 to 110", 74_000, "5.4", ADDING, SHARED),
    right("adding, T = 100 to 110", "within_0.04", "5.4", ADDING),
    solved("temporal order 6a", 31_390, "5.6", ORDER, f"T = 100, in the paper 100 to 110. {SHARED}"),
]

figure = loss_curves
