"""The error of forecasts that feed on themselves, of a chaotic series, over ten Lyapunov times."""

import functools
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ...layer import Recurrent
from .. import scores
from ..callbacks import Probe, Row
from ..module import SequenceModule
from ..records import Tables
from ..style import looks
from ..tasks import Batch, Recorded, Regression
from ..tasks.synthetic.mackey_glass import mackey_glass
from .claim import Claim, Rule, at_most, near, probed

SCRIPT, BOARD = "NeuroBench, the log in its script", "NeuroBench's leaderboard"
TRAIN = TEST = 750
OF_MEAN = "smape_of_the_mean"
OFFSET = 37.5
"""Points from where one series begins to where the next does."""


@dataclass(frozen=True)
class FreeRun(Recorded, Regression):
    """Tell the next value of the Mackey-Glass series, tau = 17, from those before (NeuroBench, Yik et al. 2025).

    75 points a Lyapunov time, which is 197 long, from a past of 0.7206597 on; 750 points to learn from, and the 750
    after them for test. Values are as they are. The solver is ours, so the series is another than theirs, which is a
    download. The loss that is watched is that of training, for the source has no other. That of the test is of
    one-step forecasts; how a model does alone is `Alone`'s to measure.

    Args:
        part: where it begins: the first, or half a Lyapunov time later, or ...

    Raises:
        ValueError: `part` is no integer of at least 0.
    """

    part: int
    input_size = 1
    output_size = 1
    every_step = True
    looks_ahead = True

    def __post_init__(self) -> None:
        if type(self.part) is not int or self.part < 0:
            raise ValueError(f"part must be an integer of at least 0, got {self.part}")

    @functools.cached_property
    def series(self) -> Tensor:
        """(TRAIN + TEST + 1, 1)."""
        begin = int(self.part * OFFSET)
        return mackey_glass(17, begin + TRAIN + TEST + 1, 75, 0.7206597, every=197)[begin:, None]

    def split(self, name: str) -> Batch:
        x, y = self.series[:-1], self.series[1:]
        if name != "test":
            return Batch(x[None, :TRAIN], y[None, :TRAIN])
        return Batch(x[None], y.index_fill(0, torch.arange(TRAIN), torch.nan)[None])


class Windowed(Recurrent):
    """A layer that reads at every step the latest inputs, after LayerNorm, and whose output goes through a ReLU.

    Args:
        window: how many inputs; before the first they are 0. Of a single one LayerNorm would leave nothing, so it is
            read as it is.
        memory: whether the state is kept from step to step.
        options: as `Recurrent`.

    Raises:
        ValueError: `window` is no integer of at least 1, or `memory` no bool.
    """

    def __init__(self, cell: Any, input_size: int, *arguments: Any, window: int, memory: bool, **options: Any) -> None:
        if type(window) is not int or window < 1:
            raise ValueError(f"window must be an integer of at least 1, got {window}")
        if not isinstance(memory, bool):
            raise ValueError(f"memory must be true or false, got {memory}")
        super().__init__(cell, window * input_size, *arguments, **options)
        self.window, self.memory = window, memory
        features, weight = window * input_size, next(self.parameters())
        self.norm = nn.LayerNorm(features, dtype=weight.dtype) if features > 1 else nn.Identity()

    def forward(self, input: Any, hx: Any = None, **options: Any) -> tuple[Tensor, Any]:
        """(B, T, input_size) -> (B, T, H), and the state: the cell's, and the inputs of the next window."""
        state, before = hx or (None, input.new_zeros(len(input), self.window - 1, input.size(2)))
        seen = torch.cat([before, input], 1)
        windows = seen.unfold(1, self.window, 1).flatten(2)  # (B, T, input_size * window)
        x, run = self.norm(windows), super().forward
        output: Any = None
        if self.memory:
            output, state = run(x, state, **options)
        else:  # every step begins anew
            output, _ = run(x.flatten(0, 1).unsqueeze(1), **options)
        return output.reshape(*x.shape[:2], -1).relu(), (state, seen[:, x.size(1) :])


class Alone(Probe):
    """`smape`, in percent, of the model that reads its own forecasts over the test part, after it has read the
    training part; and that of always answering the training part's mean."""

    def __init__(self, every_n_steps: int | None = None, num_sequences: int = 1) -> None:
        super().__init__(every_n_steps, num_sequences)

    @torch.no_grad()
    def measure(self, trainer: Any, module: SequenceModule, batch: Batch) -> list[Row]:
        if not isinstance(module.task, FreeRun):
            raise TypeError("callbacks.alone needs the task of reproduce/mackey_glass")
        series = module.task.series.to(module.device)
        _, state = module.model(series[None, :TRAIN])
        value, found = series[None, TRAIN : TRAIN + 1], []
        for _ in range(TEST):
            value, state = module.model(value, None, state)  # (1, 1, 1)
            found.append(value[0])
        truth, mean = series[TRAIN + 1 :], series[:TRAIN].mean()
        errors = {"smape": smape(torch.cat(found), truth), OF_MEAN: smape(mean.expand_as(truth), truth)}
        return [Row(name, 0, "forward", "", float(error)) for name, error in errors.items()]


def smape(forecast: Tensor, target: Tensor) -> Tensor:
    """The symmetric mean absolute percentage error, of 0 to 200, as NeuroBench has it."""
    errors = (forecast - target).abs() / (forecast.abs() + target.abs())
    return 200 * errors.mean().nan_to_num(1.0)


def mean_of_parts(tables: Tables) -> pd.Series:
    """The mean over the parts of the series, of each seed, by its first run."""
    runs = tables.results.set_index("run")
    of_runs = probed("smape")(tables).rename("smape").to_frame().join(runs[["seed"]])
    first = of_runs.reset_index().groupby("seed")["run"].first()
    return of_runs.groupby("seed")["smape"].mean().rename(first)


WINDOW, MEMORY = "config.model.window", "config.model.memory"
MODELS = {
    "LSTM, windows of 50": {"model": "LSTMCell", WINDOW: 50, MEMORY: True},
    "LSTM, windows of 50, without memory": {"model": "LSTMCell", WINDOW: 50, MEMORY: False},
    "LSTM, value by value": {"model": "LSTMCell", WINDOW: 1},
    "GRU, value by value": {"model": "GRUCell", WINDOW: 1},
}
SET_UP = (
    "The mean over two of the source's thirty parts of a series, of each seed; the solver is ours, so the series is "
    "not theirs, and this is near to a reproduction and none. Else as its script: 40 units, 200 updates on the whole "
    "training part, in double precision."
)
READS = "Theirs reads at each step the 50 latest values and keeps its state over all steps, so it has both."
LONGER = "With 1000 updates, for after 200 it is not done."


def claim(name: str, published: str, source: str, rule: Rule, why: str) -> Claim:
    return Claim(f"{name}: sMAPE", published, source, MODELS[name], mean_of_parts, rule, why)


WITH, WITHOUT, LSTM, GRU = MODELS
BOTH = "14.35, with windows and memory"
CLAIMS = [
    claim(WITH, "14.35", SCRIPT, near(14.35, 3), SET_UP),
    claim(WITH, "13.37", BOARD, near(13.37, 3), "Of a model with four times as many multiplications a step."),
    claim(WITH, "less than an echo state network's 14.7", BOARD, at_most(14.7), "That network was not run here."),
    claim(WITHOUT, BOTH, SCRIPT, at_most(14.35 + 3), READS),
    claim(LSTM, BOTH, SCRIPT, at_most(14.35 + 3), LONGER),
    claim(GRU, BOTH, SCRIPT, at_most(14.35 + 3), LONGER),
]


def figure(tables: Tables) -> Figure:
    runs = tables.results.drop(columns=[c for c in tables.results if c.startswith((scores.TEST, scores.BASELINE))])
    label = pd.Series("", runs.index)
    for name, where in MODELS.items():
        label[(runs[list(where)] == pd.Series(where)).all(axis=1)] = name
    measured = {
        "test/smape": runs["run"].map(probed("smape")(tables)),
        "baseline.mean of training.test/smape": runs["run"].map(probed(OF_MEAN)(tables)),
    }
    shown = runs.assign(task="Mackey-Glass, alone", label=label, **measured)
    return scores.figure(shown, looks(shown))
