"""The accuracy of the LSTM without one of its gates, and of its rivals, on arithmetic."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .. import scores
from ..data import generator
from ..records import Tables
from ..style import looks
from ..tasks import IGNORE, Arithmetic, Batch, Classification, Stream
from ..tasks.synthetic.arithmetic import DOT
from ..tasks.task import SPLITS, present
from .claim import Claim, Measure, Rule, at_least, at_most, near

PAPER = "Jozefowicz, Zaremba & Sutskever 2015"
WITHOUT = "config.model.without"
MODELS: dict[str, dict[str, object]] = {
    "LSTM": {"model": "lstm", "config.model.hidden_size": 64},
    "LSTM without forget gate": {WITHOUT: "forget_gate"},
    "LSTM without input gate": {WITHOUT: "input_gate"},
    "LSTM without output gate": {WITHOUT: "output_gate"},
    "LSTM with forget bias 1": {"model": "lstm_forget1"},
    "GRU": {"model": "gru"},
    "tanh RNN": {"model": "rnn"},
}
"""The runs of each."""
LSTM, NO_F, NO_I, NO_O, BIASED, GRU, RNN = MODELS


@dataclass(frozen=True)
class ArithmeticStream(Stream, Classification):
    """The sums and differences of `Arithmetic` one after the other, as the paper's models read them: in chunks, with
    the state carried over.

        input   3 e 3 - 3 4 = - 1 . k 7 + 2 = 9 .
        target              - 1 .           9 .

    Args:
        chunk: steps after which the gradient is cut off.
        problems: of training; a tenth as many for validation, and for test.
        digits, distractors: as of `Arithmetic`.
        seed: of the problems.

    Raises:
        ValueError: one is no integer, `problems` is under 10, or another out of its range.
    """

    chunk: int
    problems: int
    digits: int
    distractors: int
    seed: int
    input_size = Arithmetic.input_size
    output_size = Arithmetic.output_size
    symbols = True

    def __post_init__(self) -> None:
        super().__post_init__()
        Arithmetic(self.digits, self.distractors)
        for name, least in (("problems", 10), ("seed", 0)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")

    @functools.cached_property
    def _series(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {name: self._made(name) for name in SPLITS}

    def _made(self, name: str) -> tuple[Tensor, Tensor]:
        num = self.problems if name == "train" else self.problems // 10
        x, target, lengths, _ = Arithmetic(self.digits, self.distractors).sample(num, generator(self.seed, name, 0))
        assert lengths is not None
        x, target = F.pad(x, (0, 1), value=DOT), F.pad(target, (0, 1), value=IGNORE)  # the dot is read, too
        there = present(Batch(x, target, lengths + 1))
        return x[there], target[there]

    def series(self, split: str) -> tuple[Tensor, Tensor]:
        return self._series[split]

    def training_targets(self) -> Tensor:
        target = self.series("train")[1]
        return target[target != IGNORE]


def of(runs: pd.DataFrame, where: Mapping[str, object]) -> pd.DataFrame:
    for column, wanted in where.items():
        runs = runs[runs[column] == wanted]
    return runs


def lead(ahead: str, behind: str) -> Measure:
    """How much more accurate the one is than the other, of each seed, by the run of the first."""

    def read(tables: Tables) -> pd.Series:
        one, other = (of(tables.results, MODELS[name]).set_index("seed") for name in (ahead, behind))
        found = (one["test/accuracy"] - other["test/accuracy"]).dropna()
        return pd.Series(found.to_numpy(), found.index.map(one["run"]), dtype=float)

    return read


def claims(accuracy: Mapping[str, float], *rows: tuple[str, str, Rule, str]) -> list[Claim]:
    """Of each row who is ahead of whom, the rule and the reason; and the accuracy of each model in the paper."""
    return [
        Claim(f"{ahead} over {behind}: accuracy", f"{accuracy[ahead]} over {accuracy[behind]}", PAPER, {},
              lead(ahead, behind), rule, why)
        for ahead, behind, rule, why in rows
    ]  # fmt: skip


SET_UP = (
    "By how much, where 1 is all symbols of the answers. A stream of problems, read 35 steps at a time in 20 rows, as "
    "in the paper; but of numbers of up to 3 digits, there of 8, by one layer at one learning rate, there the best "
    "of some 220 settings. So the order is asked for, not the accuracy."
)
ARITHMETIC = dict(zip(MODELS, (0.892, 0.293, 0.751, 0.867, 0.902, 0.896, 0.295), strict=True))
"""The accuracy of each in the paper's table 1."""
CLAIMS = claims(
    ARITHMETIC,
    (LSTM, NO_F, at_least(0.1), SET_UP),
    (LSTM, NO_I, at_least(0.03), "Without a gate 76 units in place of 64, so that what is used is of one size."),
    (LSTM, NO_O, at_least(0.01), ""),
    (NO_I, NO_F, at_least(0.1), ""),
    (NO_O, NO_I, at_least(0.03), ""),
    (NO_F, RNN, at_most(0.02), ""),
    (BIASED, LSTM, at_least(0), ""),
    (GRU, LSTM, near(0, 0.03), ""),
)


def figure(tables: Tables) -> Figure:
    runs = tables.results
    label = pd.Series("", runs.index)
    for name, where in MODELS.items():
        label[of(runs, where).index] = name
    shown = runs.assign(label=label)
    return scores.figure(shown, looks(shown))
