"""The accuracy of an RNN, of one that leaks, and of one with a gate, on sequences whose time is stretched."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...cells import Cell
from ...cells.cell import State
from .. import scores
from ..records import Tables
from ..style import looks
from ..tasks import IGNORE, Batch, Classification, Generated
from .claim import Claim, at_least, at_most, column

PAPER = "Tallec & Ollivier 2018, figure 1"
LETTERS = 10


class LeakyRNNCell(Cell):
    r"""A vanilla network each of whose units has a timescale of its own (Tallec & Ollivier 2018, eq. 4).

    .. math:: h_t = (1 - \alpha) \odot h_{t-1} + \alpha \odot \tanh(W x_t + U h_{t-1} + b), \qquad \alpha = \sigma(-a)

    Args:
        t_max: a starts, as the bias of a gate does by `carousel.initialization.Chrono`, as log U(1, t_max - 1).

    State: h, (B, H). Other arguments, shapes and errors: see `Cell`.
    """

    gates = ("n",)

    def __init__(self, *arguments: Any, t_max: float, **options: Any) -> None:
        self.t_max = t_max
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"a": (self.hidden_size,)}

    @torch.no_grad()
    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "a":
            parameter.uniform_(1, self.t_max - 1).log_()
        else:
            super().draw(name, parameter)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        (h,) = state
        n, keep = (wx + uh).tanh(), self.a.sigmoid()  # (B, H), (H,)
        return (keep * h + (1 - keep) * n,), {"n": n}


@dataclass(frozen=True)
class WarpedRecall(Generated, Classification):
    """Name at every step the letter before the present one, where each letter is shown several times in a row (after
    Tallec & Ollivier 2018, section 3).

        input   c c c a a a f f f      warp 3, uniform
        target  - - - c c c a a a

    Letters are drawn alike, of 10, but none follows itself. Each is shown `warp` times or, unless `uniform`, 1 to
    `warp` times, all as likely. Of the first letter nothing is asked. The loss is the cross-entropy; chance is log 10,
    and log 9 for who sees the present letter.

    Raises:
        ValueError: `seq_len` or `warp` is no integer, or too small; or there is room for one letter alone.
    """

    seq_len: int
    warp: int
    uniform: bool
    input_size = LETTERS
    output_size = LETTERS
    every_step = True
    baseline_loss = math.log(LETTERS)
    shortest = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.warp) is not int or not 1 <= self.warp < self.seq_len:
            raise ValueError(f"warp must be an integer of at least 1 and under seq_len, got {self.warp}")

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        steps = torch.randint(1, LETTERS, (num, self.seq_len + 1), generator=generator)
        letters = steps.cumsum(1) % LETTERS  # the first is the one before all that is shown
        times = torch.randint(1, self.warp + 1, (num, self.seq_len), generator=generator)
        times = torch.full_like(times, self.warp) if self.uniform else times
        ends = times.cumsum(1)
        shown = torch.searchsorted(ends, torch.arange(self.seq_len).expand(num, -1).contiguous(), right=True)
        before = letters.gather(1, shown).masked_fill(shown == 0, IGNORE)
        return Batch(F.one_hot(letters.gather(1, shown + 1), LETTERS).float(), before)


SOLVED = 0.95
MODELS = {
    "rnn": ("RNN", ()),
    "LeakyRNNCell": ("leaky RNN", ("uniform",)),
    "ugrnn": ("gated RNN", ("uniform", "variable")),
}
"""What the paper calls each, and the kinds of warping that it solves there."""


def claim(model: str, kind: str, warp: int, steps: int) -> Claim:
    name, solves = MODELS[model]
    where = {"model": model, "config.task.uniform": kind == "uniform", "config.task.warp": warp}
    said, rule = ("solved", at_least(SOLVED)) if kind in solves else ("not solved", at_most(SOLVED))
    why = (
        f"Letters stand for {'' if kind == 'uniform' else '1 to '}{warp} steps, and differ from the one before; "
        f"sequences of {steps} steps, in the paper of 500. Leaks and gates start as Chrono has them for {warp} steps."
    )
    return Claim(f"{name}, {kind} warping by {warp}: accuracy", said, PAPER, where, column("test/accuracy"), rule, why)


CLAIMS = [
    claim(model, kind, warp, steps)
    for warp, steps in ((10, 200), (50, 400))
    for kind in ("uniform", "variable")
    for model in MODELS
]


def figure(tables: Tables) -> Figure:
    runs = tables.results
    names = runs["model"].map({model: name for model, (name, _) in MODELS.items()})
    kinds = runs["config.task.uniform"].map({True: "uniform", False: "variable"})
    shown = runs.assign(task="warping by " + runs["config.task.warp"].astype(str), label=kinds + ": " + names)
    return scores.figure(shown, looks(shown))
