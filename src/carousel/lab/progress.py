"""A run that was cut off goes on from where it last stood, to the same numbers as if nothing had been."""

import csv
import os
import random
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.optim.lr_scheduler import ReduceLROnPlateau

from . import folders, records
from .data import of_all_processes
from .options import first_line
from .saved import CHECKPOINTS

FILES = ("progress.ckpt", "progress.before.ckpt")
"""The last checkpoint, and the one before it."""


class Progress(L.Callback):
    """Writes down, every so often, all that the run needs to go on: weights, optimiser, schedule, position in the data,
    states of random numbers, what the callbacks have seen, and how far the run's files had come. It does so between two
    training steps, and keeps the checkpoint before the last one, should that turn out not to be whole.

    Of several processes (DDP) each adds its own random states and carried states, and the first one writes. A run that
    steps a ReduceLROnPlateau after every batch keeps none, and begins anew, for the loss that such a scheduler looks at
    belongs to no checkpoint of Lightning's; so does one of a strategy that shares out the weights.

    Args:
        dirpath: the folder of the checkpoints, within the run's.
        every_seconds: between two of them; 0 for one before every training step.

    Raises:
        ValueError: `every_seconds` is negative or no number.
    """

    def __init__(self, dirpath: str | Path, every_seconds: float = 30.0) -> None:
        if isinstance(every_seconds, bool) or not isinstance(every_seconds, int | float) or not every_seconds >= 0:
            raise ValueError(f"every_seconds must be a number of at least 0, got {every_seconds!r}")
        self.path, self.every_seconds = Path(dirpath) / FILES[0], every_seconds
        self.earlier = 0.0
        """Seconds that the run has taken up to the checkpoint that it goes on from."""
        self._begin = self._last = time.monotonic()
        self._saving = False
        self._random: dict[str, Any] | None = None
        """Of the checkpoint that the run goes on from, until its first training step."""

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_) -> None:
        if self._random is not None:
            _set_random_states(self._random)
            self._random = None
        elif self._is_due(trainer):
            self._saving = True
            if trainer.is_global_zero:
                records.write(self.path, lambda part: self._save(trainer, part))
            else:
                trainer.save_checkpoint(self.path)  # its part of it: it writes nothing
            self._saving, self._last = False, time.monotonic()

    def _is_due(self, trainer: L.Trainer) -> bool:
        if not trainer.global_step or trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches:
            return False  # gradients that wait for more are in no checkpoint
        if _has_validated(trainer) and any(
            isinstance(c.scheduler, ReduceLROnPlateau) for c in trainer.lr_scheduler_configs
        ):
            return False
        due = time.monotonic() - self._last >= self.every_seconds
        if trainer.world_size == 1:
            return due
        # To agree is to wait for each other: only where the losses are looked at, too.
        together = isinstance(trainer.strategy, DDPStrategy) and trainer._logger_connector.should_update_logs
        return together and trainer.strategy.reduce_boolean_decision(due, all=False)

    def _save(self, trainer: L.Trainer, part: Path) -> None:
        trainer.save_checkpoint(part)
        if self.path.exists():
            self.path.replace(self.path.with_name(FILES[1]))

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._saving:
            return
        loop = checkpoint["loops"]["fit_loop"]
        for count in ("total", "current"):  # the batch at hand has been fetched, but nothing has been made of it
            loop["epoch_loop.batch_progress"][count]["ready"] -= 1
        if _has_validated(trainer):  # the end of that step is gone through once more, but for the validation
            loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
        checkpoint["progress"] = {
            "files": _sizes(trainer, self.path.parents[1]),
            "rows": _rows(trainer),
            "random": of_all_processes(_random_states()),
            "seconds": self.earlier + time.monotonic() - self._begin,
        }

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint["progress"]["random"][trainer.global_rank]
        self.earlier = checkpoint["progress"]["seconds"]
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):  # which begins its file anew
                logger.experiment.metrics = checkpoint["progress"]["rows"]
                logger.save()


def _has_validated(trainer: L.Trainer) -> bool:
    """Whether there was a validation between the training step before and the batch at hand."""
    every: Any = trainer.val_check_batch
    return trainer.fit_loop.total_batch_idx % every == 0


def under_way(folder: Path) -> list[Path]:
    """The checkpoints that a run in `folder` may go on from, the last one first."""
    return [path for name in FILES if (path := folder / CHECKPOINTS / name).is_file()]


def check(folder: Path) -> tuple[Path | None, dict[str, int], list[str]]:
    """Set aside what the run in `folder` cannot go on from.

    Returns:
        Its last checkpoint that serves, or None; the sizes of the files that the run had written until then; and what
        is wrong with what was set aside, a line each.
    """
    said = []
    for path in under_way(folder):
        try:
            sizes = torch.load(path, map_location="cpu", weights_only=True)["progress"]["files"]
            if short := [n for n, size in sizes.items() if _size(folder / n) < size]:
                raise ValueError(f"{folder / short[0]} is shorter than it was")
        except Exception as error:  # torch's are of many kinds
            aside = path.with_name(f"{path.name}.unreadable")
            path.replace(aside)
            said.append(f"{aside} does not serve to go on from: {first_line(error)}")
        else:
            return path, sizes, said
    return None, {}, said


def take_up(folder: Path) -> tuple[Path | None, dict[str, int]]:
    """What the run in `folder` goes on from, if anything, and the sizes of its files then, to which they are cut. What
    does not serve is set aside, with a warning."""
    path, sizes, said = check(folder)
    for line in said:
        warnings.warn(line, stacklevel=2)
    for name, size in sizes.items():
        os.truncate(folder / name, size)
    return path, sizes


def forget(folder: Path) -> None:
    """Of a run that has ended, there is nothing to go on with."""
    for path in under_way(folder):
        path.unlink()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _sizes(trainer: L.Trainer, folder: Path) -> dict[str, int]:
    """Of the files in a run's folder that are only ever added to."""
    paths = [folder / records.FLOW]
    for logger in trainer.loggers:
        logger.save()
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
            paths += Path(logger.log_dir).glob(folders.EVENTS)
    mine = [path for path in paths if path.is_relative_to(folder) and path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_size for path in mine}


def _rows(trainer: L.Trainer) -> list[dict[str, str]]:
    """What has been written to metrics.csv."""
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger) and (path := Path(logger.log_dir, records.CURVES)).is_file():
            with path.open(newline="") as file:
                return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    return []


def _random_states() -> dict[str, Any]:
    drawn: Any = np.random.get_state()  # noqa: NPY002  what the libraries draw from
    name, keys, *rest = drawn
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = (name, keys.tolist(), *rest)  # no arrays: a checkpoint is loaded without trusting what made it
    return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
