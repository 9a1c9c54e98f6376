"""The validation loss of the LSTM of 1997 on the embedded Reber grammar."""

from torch import Tensor

from ..tasks import Reber
from .claim import Claim, about, loss_curves, sequences_until_solved
from .hochreiter_1997 import PAPER, Logistic

TARGETS = 11
"""Of a string, in the mean."""


class Reber1997(Logistic, Reber):
    """The embedded Reber grammar with the output units and the loss of the paper: the sum over a string, of mean
    length."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return TARGETS * super().loss(prediction, target[:, 0])

    def training_targets(self) -> Tensor:
        return super().training_targets()[:, 0]


CLAIMS = [
    Claim(
        "embedded Reber: strings until solved", "8,440", f"{PAPER}, section 5.1", {}, sequences_until_solved,
        about(8440, 3),
        "Solved when after every prefix of 256 other strings the symbols that may follow are the most active, looked "
        "at every 100 strings; in the paper that holds of the training set as well. Of its learning rates the "
        "largest, 0.5; cells squash by tanh, there by other sigmoids.",
    ),
]  # fmt: skip

figure = loss_curves
