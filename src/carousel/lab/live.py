"""What a terminal shows of a sweep while it runs: where each run stands that is at work, and how many have ended."""

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import lightning as L
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .folders import run_name
from .records import NOW, write

EVERY = 1.0
"""Seconds between two signs of life of a run."""
LONG = 60.0
"""Seconds after which a run without one is said to be silent."""


class Tell(L.Callback):
    """Writes down where a run stands, at most once a second, to a file in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path, self._last = folder / NOW, 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin, self._first = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        self._tell(trainer, "training")

    def on_validation_batch_end(self, trainer: L.Trainer, *_) -> None:
        self._tell(trainer, "validation")

    def on_test_batch_end(self, trainer: L.Trainer, *_) -> None:
        self._tell(trainer, "test")

    def _tell(self, trainer: L.Trainer, state: str) -> None:
        if not trainer.is_global_zero or (now := time.monotonic()) - self._last < EVERY:
            return
        self._last = now
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        done = step - self._first
        left = (steps - step) * (now - self._begin) / done if done else None
        loss = float(trainer.callback_metrics.get("train/loss", math.nan))
        said = {"state": state, "step": step, "steps": steps, "loss": loss, "left": left}
        with contextlib.suppress(OSError):  # the run goes on, if unseen
            write(self.path, lambda part: part.write_text(json.dumps(said)))


def names(overrides: Sequence[Sequence[str]]) -> Iterator[str]:
    """What each run of a sweep is called, by what is not common to all."""
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return (run_name([option for option in own if option not in common]) for own in overrides)


def table(running: dict[Path, str], ended: Counter[str], total: int, seconds: float, lines: int) -> Group:
    """The runs at work, a line each, and below them how many have ended.

    Args:
        running: the name of each, by its folder.
        ended: how many runs have, by status.
        total: of the sweep's runs.
        seconds: since it began.
        lines: that there are in the terminal.
    """
    grid = Table(box=None, pad_edge=False)
    grid.add_column("run")  # the one that gives way
    grid.add_column("state", no_wrap=True, min_width=10)  # as wide as most of what will stand there
    for head in ("training step", "loss", "time left"):
        grid.add_column(head, justify="right", no_wrap=True, min_width=9)
    shown = dict(list(running.items())[: max(lines - 5, 1)])
    for folder, name in shown.items():
        grid.add_row(Text(name, no_wrap=True, overflow="ellipsis"), *map(Text, _row(folder)))
    more = [Text(f"and {len(running) - len(shown)} more")] if len(shown) < len(running) else []
    done = ended.total()
    counts = f" ({', '.join(f'{count} {status}' for status, count in ended.items())})" if done else ""
    left = f", about {_duration(seconds / done * (total - done))} left" if 0 < done < total else ""
    line = Text(f"{done} of {total} runs ended{counts}, {_duration(seconds)} since the start{left}")
    return Group(*([grid, *more] if running else []), line)


def _row(folder: Path) -> list[str]:
    try:
        now = json.loads((folder / NOW).read_text())
        silent = time.time() - (folder / NOW).stat().st_mtime
    except (OSError, ValueError):
        return ["starting"]
    state = f"silent for {_duration(silent)}" if silent > LONG else now["state"]
    left = "" if now["left"] is None else _duration(now["left"])
    return [state, f"{now['step']} of {now['steps']}", f"{now['loss']:.4g}", left]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class Board:
    """The table on standard error, drawn in place; nothing at all where that is no terminal."""

    def __init__(self, total: int) -> None:
        self.console, self.total, self._begin = Console(stderr=True), total, time.monotonic()
        self.is_shown = self.console.is_terminal
        self._live = Live(console=self.console, auto_refresh=False, transient=not self.is_shown)

    def __enter__(self) -> "Board":
        self._live.start()
        return self

    def __exit__(self, *_) -> None:
        self._live.stop()

    def show(self, running: dict[Path, str], ended: Counter[str]) -> None:
        if self.is_shown:
            seconds = time.monotonic() - self._begin
            self._live.update(table(running, ended, self.total, seconds, self.console.height), refresh=True)
