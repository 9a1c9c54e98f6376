"""The share of sequences in which a spike is placed to the step, by an LSTM with peepholes and by one without."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from .. import scores
from ..records import Tables
from ..style import looks
from ..tasks import Batch, Generated, Regression, Share
from .claim import Claim, at_least, at_most, column

PAPER, AGAIN = "Gers, Schraudolph & Schmidhuber 2002", "cybertronai/schmidhuber-problems, mean of 7 seeds"


@dataclass(frozen=True)
class SpikeDistance(Generated, Regression):
    """Measure how far apart two spikes are, and answer with a third at that distance from the second (Gers, Schraudolph
    & Schmidhuber 2002; as in cybertronai/schmidhuber-problems).

        input   0 0 1 0 0 0 1 0 0 0 0 0
        target  0 0 0 0 0 0 0 0 0 0 1 0

    The distance is a fifth to two fifths of the length, and the first spike stands anywhere where there is room. The
    loss is half the squared error, summed over the steps; always answering 1/T costs (1 - 1/T) / 2: the baseline loss.
    """

    seq_len: int
    input_size = 1
    output_size = 1
    every_step = True
    shortest = 10

    @property
    def baseline_loss(self) -> float:
        return (1 - 1 / self.seq_len) / 2

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        T, least = self.seq_len, self.seq_len // 5
        apart = torch.randint(least, 2 * T // 5 + 1, (num, 1), generator=generator)
        first = (torch.rand(num, 1, generator=generator) * (T - 2 * apart)).long()
        step = torch.arange(T)
        x = (step == first) | (step == first + apart)
        return Batch(x[..., None].float(), (step == first + 2 * apart)[..., None].float())

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.seq_len / 2 * super().loss(prediction, target)

    def metrics(self) -> dict[str, Metric]:
        """The share of sequences where the output is largest, of all steps that have room for a third spike, at the
        right one."""
        return {"exact": Share(self.exact)}

    def exact(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(N,), from (N T, 1)."""
        prediction, target = (t.view(-1, self.seq_len)[:, 2 * (self.seq_len // 5) :] for t in (prediction, target))
        return prediction.argmax(1) == target.argmax(1)


EXACT = column("test/exact")
PLACED = "the third spike is placed to the step"
WITH, WITHOUT = {"model": "lstm_peephole"}, {"model": "lstm_forget1"}
SHARED = (
    "150 steps, 30 to 60 apart; the recipe is the public reproduction's: 8 units, forget bias 1, Adam, 96,000 "
    "sequences. The largest output of the last 90 steps counts, there of those after the second spike. Tried: without "
    "the clipping of the gradient's norm to 1, or with a loss 75 times smaller, of which it is never as large, neither "
    "learns it."
)
CLAIMS = [
    Claim(f"with peepholes: {PLACED}", "learnt", PAPER, WITH, EXACT, at_least(0.6), SHARED),
    Claim(f"without: {PLACED}", "fails", PAPER, WITHOUT, EXACT, at_most(0.1),
          "The paper's has no forget gate, and its distances may be longer."),
    Claim(f"with peepholes: {PLACED}", "0.881", AGAIN, WITH, EXACT, at_least(0.6), "Its seeds: 0.668 to 1."),
    Claim(f"without: {PLACED}", "0.873", AGAIN, WITHOUT, EXACT, at_least(0.6), "Its seeds: 0.6 to 1."),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
