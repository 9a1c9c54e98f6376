"""The accuracy of a bidirectional LSTM on spoken digits."""

from matplotlib.figure import Figure

from .. import scores
from ..records import Tables
from ..style import looks
from .claim import Claim, column, near

CLAIMS = [
    Claim("bidirectional LSTM of 50 units: test accuracy", "0.9841", "a public repository", {}, column("test/accuracy"),
          near(0.9841, 0.02),
          "No reproduction, for the data are others: 3000 clips of six speakers, of 13 features a step and with "
          "another tenth for test, in the source 2000 of four, of 39. There a dense layer of 50 units follows the "
          "LSTM."),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
