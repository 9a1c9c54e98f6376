"""The accuracy of an LSTM with peepholes, and of one without, on spikes that come every 49 or every 50 steps."""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure

from .. import scores
from ..records import Tables
from ..style import looks
from ..tasks import Batch, Classification, Generated
from .claim import Claim, at_least, column, near

SCORE = "test/accuracy"
PEEPHOLE, PLAIN = "lstm_peephole", "lstm"


@dataclass(frozen=True)
class SpikeDistance(Generated, Classification):
    """Tell whether the spikes of a sequence come every `distance` steps or every `distance` + 1 (after Gers,
    Schraudolph & Schmidhuber 2002).

    A sequence is of three times `distance` steps, 1 where there is a spike and 0 elsewhere, and the first spike stands
    anywhere in the first `distance` of them, so that two are there or more. The loss is the cross-entropy; chance is
    log 2.

    Raises:
        ValueError: `distance` is no integer, or under 2.
    """

    distance: int
    input_size = 1
    output_size = 2
    baseline_loss = math.log(2)

    def __post_init__(self) -> None:
        if type(self.distance) is not int or self.distance < 2:
            raise ValueError(f"distance must be an integer of at least 2, got {self.distance}")

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        longer = torch.randint(2, (num,), generator=generator)
        first = torch.randint(self.distance, (num, 1), generator=generator)
        since = torch.arange(3 * self.distance) - first  # (num, T)
        spikes = (since >= 0) & (since % (self.distance + longer[:, None]) == 0)
        return Batch(spikes[..., None].float(), longer)


def gain(tables: Tables) -> pd.Series:
    """What peepholes add to the accuracy, of each seed, by the run with them."""
    runs = tables.results
    with_them, without = (runs[runs["model"] == model].set_index("seed") for model in (PEEPHOLE, PLAIN))
    return pd.Series((with_them[SCORE] - without[SCORE]).to_numpy(), with_them["run"], dtype=float)


CLAIMS = [
    Claim("peephole LSTM: tells spikes 50 apart from spikes 49 apart", "learnt", "Gers, Schraudolph & Schmidhuber 2002",
          {"model": PEEPHOLE}, column(SCORE), at_least(0.99),
          "Asked once, after 147 steps; 16 units, batches of 32, Adam."),
    Claim("what peepholes add to the share of right answers", "0.008",
          "cybertronai/schmidhuber-problems, of another of its tasks: 0.881 and 0.873", {}, gain, near(0.008, 0.05),
          "There a spike is to follow two others at the distance that these have."),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
