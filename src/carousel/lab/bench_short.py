"""Sequences of a few steps: ours beside torch's, in turns, as medians of the turns' ratios."""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import carousel

STEPS, BATCHES, WIDTHS = (1, 2, 5, 10, 25), (1, 8, 32), (16, 50, 64, 128, 512)
"""T, B, and H, which is the number of features as well."""
LAYERS = {"LSTM": (carousel.LSTM, nn.LSTM), "GRU": (carousel.GRU, nn.GRU), "RNN": (carousel.RNN, nn.RNN)}
CELLS = {
    "LSTMCell": (carousel.LSTMCell, nn.LSTMCell),
    "GRUCell": (carousel.GRUCell, nn.GRUCell),
    "RNNCell": (carousel.RNNCell, nn.RNNCell),
}
LEAST = 2e-3
"""Seconds that are timed at once, at least: as many calls as it takes."""


def pairs(own: type[carousel.Cell]) -> dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]]:
    """Ours and its rival by H. That of a cell of one's own is the loop around the same cell."""

    def square(kind: Callable[[int, int], nn.Module]) -> Callable[[int], nn.Module]:
        return lambda h: kind(h, h)

    return {name: (square(ours), square(theirs)) for name, (ours, theirs) in (LAYERS | CELLS).items()} | {
        "a cell of one's own": (
            lambda h: carousel.Recurrent(own, h, h),
            lambda h: carousel.Recurrent(own, h, h, backend="eager"),
        )
    }


def forward(module: nn.Module, x: Tensor, weights: Tensor) -> None:
    with torch.no_grad():
        module(x)


def training_step(module: nn.Module, x: Tensor, weights: Tensor) -> None:
    """Forward, and backward to every parameter. Every output takes part in the loss, so that no gradient vanishes
    into denormal numbers, whose slowness would be measured in place of the module's."""
    module.zero_grad()
    out = module(x)
    (out if isinstance(out, Tensor) else out[0]).backward(weights)


WORKS = {"inference": forward, "training": training_step}


def measure(own: type[carousel.Cell], threads: list[int], repeats: int, console) -> pd.DataFrame:
    """A row for each number of threads, module, work, T, B and H: torch's time over ours."""
    rows, modules = [], pairs(own)
    cases = list(itertools.product(threads, modules, WORKS, STEPS, BATCHES, WIDTHS))
    cases = [case for case in cases if case[3] == 1 or case[1] in LAYERS]
    for count, name, kind, steps, batch, width in track(
        cases, "timing", console=console, disable=not console.is_terminal, transient=True
    ):
        torch.set_num_threads(count)
        torch.manual_seed(0)
        work = WORKS[kind]
        shape = (batch, width) if name in CELLS else (steps, batch, width)
        x, weights = torch.randn(shape), torch.randn(shape)
        both = [make(width) for make in modules[name]]
        share(*both)
        engine = "torch" if name in CELLS else _engine(both[0], x, work)
        calls = [max(1, int(LEAST / min(seconds(work, m, x, weights) for _ in range(3)))) for m in both]
        turns = []
        for turn in range(repeats):
            order = (0, 1) if turn % 2 else (1, 0)
            taken = {k: seconds(work, both[k], x, weights, calls=calls[k]) for k in order}
            turns.append((taken[0], taken[1]))
        ours, rival = (statistics.median(taken) for taken in zip(*turns, strict=True))
        speed = statistics.median(b / a for a, b in turns)
        rows.append((count, name, kind, steps, batch, width, engine, 1e6 * ours, 1e6 * rival, speed))
    return pd.DataFrame(rows, columns=["threads", "module", "work", "T", "B", "H", "engine", "us", "rival_us", "speed"])


def share(ours: nn.Module, rival: nn.Module) -> None:
    """Let both read the same weights: where a call waits for memory, it is their place that decides."""
    for name, weight in ours.named_parameters():
        *path, last = name.split(".")
        setattr(rival.get_submodule(".".join(path)), last, weight)


def _engine(layer: nn.Module, x: Tensor, work: Callable) -> str:
    with torch.set_grad_enabled(work is training_step):
        return carousel.explain(layer, x)[0].engine


def seconds(work: Callable, module: nn.Module, *given: Any, calls: int = 1) -> float:
    # What one thread has had of the CPU, where there is but one: others at work on the machine do not count.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    for _ in range(calls):
        work(module, *given)
    return (clock() - begin) / calls


def show(rows: pd.DataFrame) -> Table:
    """Over all shapes of a module: the least speed, where it is, the mean, and how many are below 0.95."""
    grid = Table(title="short sequences: speed beside torch.nn; for a cell of one's own, beside its loop")
    for heading in ("threads", "module", "work", "least", "at T, B, H", "geometric mean", "below 0.95"):
        grid.add_column(heading, justify="right" if heading in ("threads", "least", "geometric mean") else "left")
    for (threads, module, work), group in rows.groupby(["threads", "module", "work"], sort=False):
        least = group.loc[group.speed.idxmin()]
        where = ", ".join(str(least[name]) for name in "TBH")
        mean, below = statistics.geometric_mean(group.speed), (group.speed < 0.95).sum()
        numbers = (f"{least.speed:.2f}", where, f"{mean:.2f}", f"{below} of {len(group)}")
        grid.add_row(str(threads), module, work, *numbers)
    return grid
