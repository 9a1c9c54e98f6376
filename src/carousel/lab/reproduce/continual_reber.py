"""The share of Reber strings whose second symbol is predicted when it is due, with a forget gate and without."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from .. import scores
from ..records import Tables
from ..style import looks
from ..tasks import Reber
from .claim import Claim, at_least, at_most, column

PAPER, AGAIN = "Gers, Schmidhuber & Cummins 2000", "cybertronai/schmidhuber-problems, 12 units"
STREAM = 10_000
"""Steps of a test sequence."""
WITH, WITHOUT = {"model": "lstm_forget1"}, {"model": "lstm"}


@dataclass(frozen=True)
class ContinualReber(Reber):
    """As `Reber` with `continual`, and tested on sequences that are far longer."""

    def tested(self) -> Reber:
        return Reber(continual=STREAM)


SHARED = (
    "Learnt from sequences of 300 steps, in batches of 32 with Adam, in the source symbol by symbol; tested on 10 "
    "streams of 10,000, over which no state is ever reset."
)
CLAIMS = [
    Claim("with forget gate: strings closed rightly", "0.997", AGAIN, WITH, column("test/closed"), at_least(0.95),
          SHARED),
    Claim("without: strings closed rightly", "0.550", AGAIN, WITHOUT, column("test/closed"), at_most(0.75),
          "Half of them are right by chance."),
    Claim("with forget gate: steps with the legal symbols the likeliest", "all, in 18% of runs", PAPER, WITH,
          column("test/all_legal"), at_least(0.99), SHARED),
    Claim("without: steps with the legal symbols the likeliest", "fails", PAPER, WITHOUT, column("test/all_legal"),
          at_most(0.95), "Whoever knows all but the second symbol of a string has 0.91 of them."),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
