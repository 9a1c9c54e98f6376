"""The validation loss of the LSTM of 1997 on the temporal order of three symbols."""

from .claim import Claim, about, at_least, column, sequences_until_solved
from .hochreiter_1997 import PAPER, figure

__all__ = ["CLAIMS", "figure"]

CLAIMS = [
    Claim(
        "temporal order 6b: sequences until solved", "571,100", f"{PAPER}, section 5.6", {},
        sequences_until_solved, about(571_100, 2),
        "T = 100, in the paper 100 to 110; gates are each cell's own and cells squash by tanh, as for 6a, so there are "
        "more than the paper's 308 weights. Looked at every 4000 sequences; after 600,000 a run ends.",
    ),
    Claim(
        "temporal order 6b: at most 1 of 2560 wrong", "0.9996", f"{PAPER}, section 5.6", {},
        column("test/accuracy"), at_least(0.998), "On 2560 sequences of their own; of these 5 may be wrong.",
    ),
]  # fmt: skip
