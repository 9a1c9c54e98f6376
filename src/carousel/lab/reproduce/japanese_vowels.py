"""The accuracy of a bidirectional LSTM on the Japanese vowels, beside that of time warping."""

from matplotlib.figure import Figure

from .. import scores
from ..records import Tables
from ..style import looks
from .claim import Claim, column, near

FEWER = "Trained on 216 of the 270 utterances, in the source on all; of the others nothing is chosen."
CLAIMS = [
    Claim(
        "bidirectional LSTM of 100 units: test accuracy", "0.9541", "a public repository, as MATLAB's example", {},
        column("test/accuracy"), near(0.9541, 0.02), f"{FEWER} Batches are shuffled, there sorted by length.",
    ),
    Claim(
        "nearest neighbour by time warping: test accuracy", "0.949 to 0.959", "tables on the UEA archive", {},
        column("baseline.nearest by time warping.test/accuracy"), near(0.954, 0.01), FEWER,
    ),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
