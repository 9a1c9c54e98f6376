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
GATES = "config.model.detach.gates"
"""1 where the error travels back along the cell state alone, as in the paper, and 0 where along every path."""


@dataclass(frozen=True)
class ContinualReber(Reber):
    """As `Reber` with `continual`, and tested on sequences that are far longer."""

    def tested(self) -> Reber:
        return Reber(continual=STREAM)


SHARED = (
    "Learnt from sequences of 300 steps, in batches of 32 with Adam, in the sources symbol by symbol; tested on 10 "
    "streams of 10,000, over which no state is ever reset."
)
CHANCE = "Half of them are right by chance."
CLOSED, LEGAL = column("test/closed"), column("test/all_legal")


def model(forgets: bool, truncated: bool) -> dict[str, object]:
    return {"model": "lstm_forget1" if forgets else "lstm", GATES: float(truncated)}


CLAIMS = [
    Claim("with forget gate: strings closed rightly", "0.997", AGAIN, model(True, False), CLOSED, at_least(0.95),
          SHARED),
    Claim("without: strings closed rightly", "0.550", AGAIN, model(False, False), CLOSED, at_most(0.75), CHANCE),
    Claim("with, truncated gradient: steps of which all that is legal is the likeliest", "solved", PAPER,
          model(True, True), LEGAL, at_least(0.99), SHARED),
    Claim("without, truncated gradient: strings closed rightly", "fails", PAPER, model(False, True), CLOSED,
          at_most(0.75), CHANCE),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    runs = tables.results
    gate = runs["model"].map({"lstm_forget1": "with forget gate", "lstm": "without"})
    gradient = runs[GATES].astype(float).map({0.0: "whole gradient", 1.0: "truncated gradient"})
    others = [name for name in scores.columns(runs) if name != "test/closed"]
    shown = runs.drop(columns=others).assign(label=gate + ", " + gradient)
    return scores.figure(shown, looks(shown))
