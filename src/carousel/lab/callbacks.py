"""Measures while training, for TensorBoard and for the run's folder."""

import contextlib
import csv
import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..gradients import flow, gates, lyapunov, memory_length, paths, theory
from ..twins import from_torch
from . import figures
from .module import SequenceModule
from .results import write


def log(trainer: L.Trainer, values: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def tensorboard(trainer: L.Trainer) -> SummaryWriter | None:
    return next((lg.experiment for lg in trainer.loggers if isinstance(lg, TensorBoardLogger)), None)


def numbered(found: list) -> list[tuple[str, Any]]:
    """What is measured of each layer and direction, with the end of its name: _0, _1, ..., none if there is but one."""
    return [("" if len(found) == 1 else f"_{k}", one) for k, one in enumerate(found)]


class Probe(L.Callback):
    """Something measured on the same validation sequences: before training, every `every_n_steps`, and at the end.

    What `measure` returns is logged, and kept in `values`, for the run's record.

    Args:
        every_n_steps: None for the beginning and the end alone.
        num_sequences: of the validation data.

    Raises:
        ValueError: an argument is under 1.
    """

    def __init__(self, every_n_steps: int | None, num_sequences: int) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("num_sequences", num_sequences)):
            if value is None and name == "every_n_steps":
                continue
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value}")
        self.every_n_steps, self.num_sequences = every_n_steps, num_sequences
        self.values: dict[int, dict[str, float]] = {}  # training step -> name -> value

    def measure(self, trainer: L.Trainer, module: SequenceModule, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
        raise NotImplementedError

    def _measure(self, trainer: L.Trainer, module: SequenceModule) -> None:
        step = trainer.global_step
        if step in self.values:
            return
        batch = next(iter(trainer.datamodule.val_dataloader()))
        values = self.measure(trainer, module, tuple(part[: self.num_sequences].to(module.device) for part in batch))
        self.values[step] = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        log(trainer, self.values[step])

    def on_train_start(self, trainer, module) -> None:
        self._measure(trainer, module)

    def on_train_batch_end(self, trainer, module, *_) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, module)

    def on_train_end(self, trainer, module) -> None:
        self._measure(trainer, module)


class GradientFlow(Probe):
    """The gradient with respect to each state against the lag, as `carousel.gradients.flow` measures it.

    TensorBoard: the curve at initialisation and at the end (scalars with the lag as the step), a heatmap of training
    step x lag, and the memory length over training. File: step, state, lag, log10_norm. With several
    layers or directions, h_0 and h_1 are the states of the first and the second, in the order of torch's.

    Args:
        path: the file.
        predict: also write, in a column `predicted` and for the beginning, what `gradients.theory` expects of the cell
            around the mean input; empty where it expects nothing, as of several layers.
    """

    def __init__(self, path: str | Path, every_n_steps: int | None, num_sequences: int, predict: bool = False) -> None:
        super().__init__(every_n_steps, num_sequences)
        self.path, self.predict = Path(path), predict
        self.history: dict[str, dict[int, Tensor]] = {}  # state -> training step -> (T,)
        self.predicted: dict[str, Tensor] = {}  # state -> (T,)

    def measure(self, trainer, module, batch) -> dict[str, float]:
        step = trainer.global_step
        flows = flow(module.recurrent, lambda: module.loss(batch))
        curves = {f"{s}{k}": c.cpu() for k, f in numbered(flows) for s, c in f.rms().items()}
        for state, curve in curves.items():
            self.history.setdefault(state, {})[step] = curve
        if step == 0:
            self._write_curves(trainer, "at_init", curves)
            if self.predict and len(flows) == 1:  # in layers below the last, errors arrive at every step
                with contextlib.suppress(ValueError):
                    linear = theory.linearise(from_torch(module.recurrent).cell(), batch[0].mean((0, 1)))
                    self.predicted = linear.curves(batch[0].size(1))
        if trainer.is_global_zero:
            write(self.path, self._save)
        return {f"memory_length/{state}": memory_length(curve) for state, curve in curves.items()}

    def _save(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("step", "state", "lag", "log10_norm", *["predicted"] * self.predict))
            for state, curves in self.history.items():
                for step, curve in curves.items():
                    columns = [[f"{y:.4f}" for y in curve.tolist()]]
                    if self.predict:
                        expected = self.predicted.get(state) if step == 0 else None
                        columns.append(
                            [""] * len(curve) if expected is None else [f"{y:.4f}" for y in expected.tolist()]
                        )
                    rows.writerows((step, state, lag, *row) for lag, row in enumerate(zip(*columns, strict=True)))

    def _write_curves(self, trainer: L.Trainer, when: str, curves: dict[str, Tensor]) -> None:
        if writer := tensorboard(trainer):
            for state, curve in curves.items():
                for lag, y in enumerate(curve.tolist()):
                    writer.add_scalar(f"gradient_flow_{when}/log10_dL_d{state}_against_lag", y, lag)

    def on_train_end(self, trainer, module) -> None:
        super().on_train_end(trainer, module)
        self._write_curves(trainer, "at_end", {state: list(c.values())[-1] for state, c in self.history.items()})
        if writer := tensorboard(trainer):
            for state, curves in self.history.items():
                figure = figures.heatmap(state, list(curves), torch.stack(list(curves.values())))
                writer.add_figure(f"gradient_flow/d{state}", figure, trainer.global_step)


class GateStatistics(Probe):
    """How far each gate stands open, and how long the units remember, as `carousel.gradients.gates` measures it.

    The mean of each gate and candidate, and of the gates the shares under 0.1 and over 0.9; the median timescale of the
    units in steps, the share of units that remember at least a sequence, and in TensorBoard the histogram of the
    timescales over seq_len.
    """

    def measure(self, trainer, module, batch) -> dict[str, float]:
        values = {}
        for suffix, seen in numbered(gates(module.recurrent, lambda: module(batch[0]))):
            closed, opened = seen.closed(), seen.open()
            for name, value in seen.values.items():
                values[f"gates/{name}{suffix}_mean"] = value.mean()
                if (value >= 0).all():  # no candidate
                    values[f"gates/{name}{suffix}_closed"] = closed[name].mean()
                    values[f"gates/{name}{suffix}_open"] = opened[name].mean()
            if seen.keep_gate:
                timescales = seen.timescales().cpu()
                steps = batch[0].size(1)
                values[f"gates/timescale{suffix}_median"] = timescales.median()
                values[f"gates/timescale{suffix}_share_beyond_seq_len"] = (timescales >= steps).double().mean()
                spread = (timescales / steps).log10().clamp(max=10)
                if (writer := tensorboard(trainer)) and spread.isfinite().all():
                    writer.add_histogram(f"gates/log10_timescale{suffix}_over_seq_len", spread, trainer.global_step)
        return values


class GradientPaths(Probe):
    """By which way the gradient comes back, as `carousel.gradients.paths` measures it: what the carousel alone and the
    gates alone carry over half the sequence, as the decimal logarithm of their share of the whole (first layer; of c,
    or of h where there is no c). The shares of both need not add up to 1, nor be under it."""

    def measure(self, trainer, module, batch) -> dict[str, float]:
        split = paths(module.recurrent, lambda: module.loss(batch))[0]
        curves = {name: list(getattr(split, name).rms().values())[-1] for name in ("total", "carousel", "gates")}
        lag = (batch[0].size(1) - 1) // 2
        return {f"paths/{name}": curves[name][lag] - curves["total"][lag] for name in ("carousel", "gates")}


class LargestLyapunovExponent(Probe):
    """The mean over sequences of the largest Lyapunov exponent per step, in nats (first layer), as
    `carousel.gradients.lyapunov` measures it after the first tenth of the steps: above 0 nearby states part."""

    def measure(self, trainer, module, batch) -> dict[str, float]:
        spectrum = lyapunov(module.recurrent, lambda: module(batch[0]), exponents=1, discard=batch[0].size(1) // 10)
        return {"lyapunov/largest": spectrum[0].mean()}


class StopWhenSolved(L.Callback):
    """Stop at the first validation that the task counts as solved, and remember the training step."""

    def __init__(self) -> None:
        self.steps_to_solve: int | None = None

    def on_validation_end(self, trainer, module) -> None:
        if module.task.solved(float(trainer.callback_metrics["val/loss"])):
            self.steps_to_solve = trainer.global_step
            trainer.should_stop = True


class LossChart(L.Callback):
    """One chart of training loss, validation loss and chance together, in TensorBoard's Custom Scalars page."""

    def on_train_start(self, trainer, _) -> None:
        if writer := tensorboard(trainer):
            chart = ["Multiline", ["train/loss", "val/loss", "val/chance"]]
            writer.add_custom_scalars({"loss": {"loss and the chance level": chart}})
