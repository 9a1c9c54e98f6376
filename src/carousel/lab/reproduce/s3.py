"""The accuracy of each model on the word problem of S3, on sequences more than six times as long as in training."""

from matplotlib.figure import Figure

from .. import scores
from ..records import Tables
from ..style import looks
from .claim import Claim, at_least, at_most, scaled
from .parity import SIGNED

CLASSES = 6
SHARED = (
    "The product so far is asked at every step of 40, and scored at all of 256; our linear cells are minGRUs of one "
    "layer."
)
LARGER = "In the paper larger groups, and the lengths of training."
BEYOND = (
    "Proven, of one layer at finite precision, of sequences without bound. To know the sign alone makes 0.2, and all "
    "of the first 40 steps with the sign from there on 0.325."
)
MERRILL, SHAKERINAVA = "Merrill, Petty & Sabharwal 2024", "Shakerinava et al. 2026"
CLAIMS = [
    Claim("sLSTM: scaled accuracy", "1.000", "Hartl et al. 2026, up to 2048 steps", {"model": "slstm"},
          scaled(CLASSES), at_least(0.95), SHARED),
    *(
        Claim(f"{name}: scaled accuracy", "learnt by one layer", f"{MERRILL}, of an RNN", {"model": model},
              scaled(CLASSES), at_least(0.95), f"{LARGER}{tried}")
        for model, name, tried in (
            ("rnn", "RNN", " It comes no further in 2000 training steps, which one seed was given."),
            ("lstm", "LSTM", ""),
            ("gru", "GRU", ""),
        )
    ),
    Claim("linear, diagonal, gates in (0, 1): scaled accuracy", "not learnt", SHAKERINAVA, {"model": "min_gru"},
          scaled(CLASSES), at_most(0.35), BEYOND),
    Claim("linear, diagonal, gates in (-1, 1): scaled accuracy", "not learnt", SHAKERINAVA, SIGNED,
          scaled(CLASSES), at_most(0.35), BEYOND),
]  # fmt: skip


def figure(tables: Tables) -> Figure:
    return scores.figure(tables.results, looks(tables.results))
