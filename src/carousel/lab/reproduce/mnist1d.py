"""The accuracy of recurrent models on MNIST-1D, with its points in their order and shuffled."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ...layer import Recurrent
from .. import scores
from ..records import Tables
from ..style import looks
from ..tasks import MNIST1D, Batch
from ..tasks.real.mnist1d import made
from .claim import Claim, Rule, at_least, at_most, column, near

README, LOG = "Greydanus & Kobak 2020, README", "the notebook's log, after 6000 steps"


class AllSteps(Recurrent):
    """A layer whose one output is those of all steps, side by side, for a linear layer that reads them all.

    Args:
        steps: of every sequence.
        options: as `Recurrent`.

    Raises:
        ValueError: `steps` is no integer of at least 1.
    """

    def __init__(self, *arguments: Any, steps: int, **options: Any) -> None:
        if type(steps) is not int or steps < 1:
            raise ValueError(f"steps must be an integer of at least 1, got {steps}")
        super().__init__(*arguments, **options)
        self.steps = steps

    @property
    def output_size(self) -> int:
        return self.steps * super().output_size

    def forward(self, input: Any, hx: Any = None, **options: Any) -> tuple[Tensor, Any]:
        """(B, T, input_size) -> (B, 1, output_size), and the last state."""
        output, state = super().forward(input, hx, **options)
        return output.flatten(1).unsqueeze(1), state  # pyright: ignore[reportAttributeAccessIssue]  # never packed


@dataclass(frozen=True)
class PublishedMNIST1D(MNIST1D):
    """MNIST-1D as its authors split it: trained on all of the first 4000 signals. The loss that is watched is that of
    the test data, as in the source; nothing is chosen by it.

    Args:
        shuffled: whether the 40 points of every signal are in another order, the source's, the same in all.
    """

    shuffled: bool

    def recorded(self) -> dict[str, Batch]:
        x, digits = made()
        if self.shuffled:
            x = x[:, np.random.RandomState(42).permutation(40)]  # as the source draws it
        train, test = Batch(x[:4000], digits[:4000]), Batch(x[4000:], digits[4000:])
        return {"train": train, "val": test, "test": test}


ACCURACY = column("test/accuracy")
MODELS = {"GRUCell": "GRU", "RNNCell": "RNN", "LSTMCell": "LSTM", "MinGRUCell": "minGRU"}
MLP = 0.68
SET_UP = (
    "Batches are drawn anew in each epoch, there they are the same in all; the signals are those of one seed, as there."
)
SAID = "Said of a GRU and of a convolution, not of this cell, which has the GRU's set-up; the MLP was not run here."
OTHERS = {name: called for name, called in MODELS.items() if called != "GRU"}


def claim(model: str, shuffled: bool, published: str, source: str, rule: Rule, why: str) -> Claim:
    order = "points shuffled" if shuffled else "points in order"
    where = {"model": model, "config.task.shuffled": shuffled}
    return Claim(f"{MODELS[model]}, {order}: accuracy", published, source, where, ACCURACY, rule, why)


CLAIMS = [
    claim("GRUCell", False, "0.91", README, near(0.91, 0.02), SET_UP),
    claim("GRUCell", False, "0.891", LOG, near(0.891, 0.02), "There the best was 0.903, after 4000 steps."),
    claim("GRUCell", True, "0.57", README, near(0.57, 0.03), SET_UP),
    claim("GRUCell", True, "0.533", LOG, near(0.533, 0.03), "There the best was 0.568, after 1000 steps."),
    *(claim(model, False, "more than an MLP's 0.68", README, at_least(MLP), SAID) for model in OTHERS),
    *(claim(model, True, "less than an MLP's 0.68", README, at_most(MLP), SAID) for model in OTHERS),
]


def figure(tables: Tables) -> Figure:
    runs = tables.results
    order = runs["config.task.shuffled"].map({False: "points in order", True: "points shuffled"})
    shown = runs.assign(task="MNIST-1D, " + order, label=runs["model"].map(MODELS))
    return scores.figure(shown, looks(shown))
