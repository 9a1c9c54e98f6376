"""Measures while training, for TensorBoard and for the run's folder."""

import contextlib
import csv
import math
import re
import textwrap
import warnings
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..gradients import flow, gates, lyapunov, memory_length, paths, theory
from ..layers import from_torch
from . import figures
from .dashboard import tag
from .module import SequenceModule, log
from .records import FLOW_COLUMNS
from .tasks import Batch

WIDE = 100
"""Of an example that is a text, as many characters stand on a line in TensorBoard."""


def tensorboard(trainer: L.Trainer) -> SummaryWriter | None:
    return next((lg.experiment for lg in trainer.loggers if isinstance(lg, TensorBoardLogger)), None)


class Row(NamedTuple):
    """One number of a probe. With the training step it is a row of the run's probes.csv."""

    measure: str
    """Such as "memory_length" or "gates/f_mean"."""
    layer: int
    direction: str
    """forward or reverse"""
    state: str
    """Whose gradient was measured; empty for what is of no state."""
    value: float


def places(layer: Any) -> list[tuple[int, str]]:
    """Layer and direction of each thing that a measure returns, in its order."""
    directions = ("forward", "reverse") if layer.bidirectional else ("forward",)
    return [(k, direction) for k in range(layer.num_layers) for direction in directions]


def suffix(recurrent: Any, layer: int, direction: str) -> str:
    """How a name in TensorBoard ends: with the layer and the direction where there are several."""
    return f"_layer{layer}" * (recurrent.num_layers > 1) + f"_{direction}" * bool(recurrent.bidirectional)


def of_one_length(batch: Batch, num: int, every_step: bool) -> Batch:
    """The `num` longest sequences, or the first of those of one length. Of each it takes the end, as many steps as the
    shortest of them has, so that a lag means the same in all."""
    if batch.lengths is None:
        return Batch(batch.input[:num], batch.target[:num])
    rows = batch.lengths.argsort(descending=True, stable=True)[:num]
    steps = int(batch.lengths[rows].min())
    ends = rows[:, None], (batch.lengths[rows] - steps)[:, None] + torch.arange(steps)  # (num, steps)
    return Batch(batch.input[ends], batch.target[ends] if every_step else batch.target[rows])


class Probe(L.Callback):
    """Something measured on the same validation sequences: before training, every `every_n_steps`, and at the end.

    What `measure` returns is logged, but for what is not finite, and kept in `values` for the run's probes.csv.

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
        self.values: dict[int, list[Row]] = {}  # by training step

    def measure(self, trainer: L.Trainer, module: SequenceModule, batch: Batch) -> list[Row]:
        """Measure on some sequences of one length, T."""
        raise NotImplementedError

    def _measure(self, trainer: L.Trainer, module: SequenceModule) -> None:
        step = trainer.global_step
        if step in self.values:
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning leaves it out
        batch = next(iter(data.val_dataloader()))
        batch = of_one_length(batch, self.num_sequences, module.task.every_step)
        batch = trainer.precision_plugin.convert_input(move_data_to_device(batch, module.device))
        try:
            rows = self.measure(trainer, module, batch)
        except ValueError:
            if module.last_loss(batch).isfinite():
                raise
            rows = []  # of a run that diverged there is nothing to measure
        self.values[step] = [row._replace(value=float(row.value)) for row in rows if math.isfinite(row.value)]
        recurrent = module.recurrent
        tags = {
            "/".join(filter(None, (row.measure, row.state))) + suffix(recurrent, row.layer, row.direction): row.value
            for row in self.values[step]
        }
        if tags:
            log(trainer, tags)

    def state_dict(self) -> dict[str, Any]:
        return {"values": {step: list(map(tuple, rows)) for step, rows in self.values.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values = {step: [Row(*row) for row in rows] for step, rows in state["values"].items()}

    def on_train_start(self, trainer, module) -> None:
        if not self.values:  # of a run that goes on, the beginning is long measured
            self._measure(trainer, module)

    def on_train_batch_end(self, trainer, module, *_) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, module)

    def on_train_end(self, trainer, module) -> None:
        self._measure(trainer, module)


class GradientFlow(Probe):
    """The gradient with respect to each state against the lag, as `carousel.gradients.flow` measures it.

    TensorBoard: the curve at initialisation and at the end, relative to lag 0 (scalars with the lag as the step), a
    heatmap of training step x lag, and the memory length over training.
    File: step, layer, direction, state, lag, log10_norm, predicted.

    Args:
        path: the file.
        predict: for so many lags, at the beginning, `predicted` is what `gradients.theory` expects of the cell around
            the mean input; empty where it expects nothing, as of several layers.

    Raises:
        ValueError: `predict` is negative, or as for any probe.
    """

    def __init__(self, path: str | Path, every_n_steps: int | None, num_sequences: int, predict: int = 0) -> None:
        super().__init__(every_n_steps, num_sequences)
        if type(predict) is not int or predict < 0:
            raise ValueError(f"predict must be an integer of at least 0, got {predict}")
        self.path, self.predict = Path(path), predict
        self.history: dict[tuple[int, str, str], dict[int, Tensor]] = {}  # layer, direction, state -> step -> (T,)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.history = state["history"]

    def measure(self, trainer, module, batch) -> list[Row]:
        flows = zip(places(module.recurrent), flow(module.recurrent, lambda: module.last_loss(batch)), strict=True)
        curves = {(*place, state): c.float().cpu() for place, f in flows for state, c in f.rms().items()}
        predicted = {}
        if trainer.global_step == 0 and self.predict and len(places(module.recurrent)) == 1:
            # Of one layer alone: in those below the last, errors arrive at every step.
            with contextlib.suppress(ValueError):
                layer: Any = from_torch(module.recurrent)
                linear = theory.linearise(layer.cell(), module.model.encode(batch.input).mean((0, 1)))
                predicted = linear.curves(min(self.predict, batch.input.size(1)))
        if trainer.is_global_zero:
            self._write(trainer.global_step, curves, predicted)
        if not self.history:
            self._show(trainer, module, "at_init", curves)
            self._show(trainer, module, "predicted", {(0, "forward", state): c for state, c in predicted.items()})
        for key, curve in curves.items():
            self.history.setdefault(key, {})[trainer.global_step] = curve
        return [Row("memory_length", *key, memory_length(curve)) for key, curve in curves.items()]

    def _write(self, step: int, curves: dict[tuple[int, str, str], Tensor], predicted: dict[str, Tensor]) -> None:
        """Append to the file; the first curves begin it anew."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a" if self.history else "w", newline="") as file:
            rows = csv.writer(file)
            if not self.history:
                rows.writerow((*FLOW_COLUMNS, "predicted"))
            for key, curve in curves.items():
                pairs = zip_longest(curve.tolist(), predicted[key[-1]].tolist() if key[-1] in predicted else ())
                words = (("" if y is None else f"{y:.4f}" for y in pair) for pair in pairs)
                rows.writerows((step, *key, lag, *pair) for lag, pair in enumerate(words))

    def _show(self, trainer: L.Trainer, module: SequenceModule, when: str, curves: dict[tuple, Tensor]) -> None:
        if writer := tensorboard(trainer):
            for (layer, direction, state), curve in curves.items():
                name = f"gradient_against_lag/log10_dL_d{state}_{when}{suffix(module.recurrent, layer, direction)}"
                for lag, y in enumerate((curve - curve[0]).tolist()):
                    writer.add_scalar(tag(name), y, lag)

    def on_train_end(self, trainer, module) -> None:
        super().on_train_end(trainer, module)
        self._show(trainer, module, "at_end", {key: list(curves.values())[-1] for key, curves in self.history.items()})
        if writer := tensorboard(trainer):
            for (layer, direction, state), curves in self.history.items():
                end = suffix(module.recurrent, layer, direction)
                try:
                    title = figures.derivative(state, layer, direction) if end else figures.derivative(state)
                    figure = figures.heatmap(title, list(curves), torch.stack(list(curves.values())))
                    writer.add_figure(tag(f"gradient_flow/d{state}{end}"), figure, trainer.global_step)
                except Exception as error:  # no picture is worth a run
                    warnings.warn(f"the heatmap of d{state}{end} was not drawn: {error}", stacklevel=1)


class GateStatistics(Probe):
    """How far each gate stands open, and how long the units remember, as `carousel.gradients.gates` measures it.

    The mean of each gate and candidate, and of the gates the shares under 0.1 and over 0.9; the median timescale of the
    units in steps, the share of units that remember at least a sequence, and in TensorBoard the histogram of the
    timescales over seq_len.
    """

    def measure(self, trainer, module, batch) -> list[Row]:
        rows = []
        found = zip(places(module.recurrent), gates(module.recurrent, lambda: module(batch.input)), strict=True)
        for place, seen in found:
            values = {}
            closed, opened = seen.closed(), seen.open()
            for name, value in seen.values.items():
                values[f"{name}_mean"] = value.mean()
                if (value >= 0).all():  # no candidate
                    values[f"{name}_closed"] = closed[name].mean()
                    values[f"{name}_open"] = opened[name].mean()
            if seen.keep_gate:
                timescales = seen.timescales().cpu()
                steps = batch.input.size(1)
                values["timescale_median"] = timescales.median()
                values["timescale_share_beyond_seq_len"] = (timescales >= steps).double().mean()
                spread = (timescales / steps).log10().clamp(max=10)
                if (writer := tensorboard(trainer)) and spread.isfinite().all():
                    name = f"gates/log10_timescale_over_seq_len{suffix(module.recurrent, *place)}"
                    writer.add_histogram(tag(name), spread, trainer.global_step)
            rows += [Row(f"gates/{name}", *place, "", value) for name, value in values.items()]
        return rows


class GradientPaths(Probe):
    """By which way the gradient comes back, as `carousel.gradients.paths` measures it: what the carousel alone and the
    gates alone carry over half the sequence, as the decimal logarithm of their share of the whole (of c, or of h where
    there is no c). The shares of both need not add up to 1, nor be under it."""

    def measure(self, trainer, module, batch) -> list[Row]:
        lag = (batch.input.size(1) - 1) // 2
        rows = []
        found = zip(places(module.recurrent), paths(module.recurrent, lambda: module.last_loss(batch)), strict=True)
        for place, split in found:
            total, *alone = (flow.rms() for flow in (split.total, split.carousel, split.gates))
            state = list(total)[-1]
            for name, curves in zip(("carousel", "gates"), alone, strict=True):
                rows.append(Row(f"paths/{name}", *place, state, float(curves[state][lag] - total[state][lag])))
        return rows


class LargestLyapunovExponent(Probe):
    """The mean over sequences of the largest Lyapunov exponent per step, in nats, as `carousel.gradients.lyapunov`
    measures it after the first tenth of the steps: above 0 nearby states part."""

    def measure(self, trainer, module, batch) -> list[Row]:
        spectra = lyapunov(
            module.recurrent, lambda: module(batch.input), exponents=1, discard=batch.input.size(1) // 10
        )
        found = zip(places(module.recurrent), spectra, strict=True)
        return [Row("lyapunov/largest", *place, "", float(spectrum.mean())) for place, spectrum in found]


class StopWhenSolved(L.Callback):
    """Stop at the first validation that counts as solved, and remember the training step.

    Args:
        monitor: a score, such as val/accuracy, that is to come to `at_least`.
        at_least: None: the task says what counts as solved, by its loss.

    Raises:
        ValueError: one of the two is given without the other.
    """

    def __init__(self, monitor: str | None = None, at_least: float | None = None) -> None:
        if (monitor is None) != (at_least is None):
            raise ValueError(f"monitor and at_least must be given together, got {monitor!r} and {at_least!r}")
        self.monitor, self.at_least = monitor, at_least
        self.steps_to_solve: int | None = None

    def solved(self, module: SequenceModule, metrics: Mapping[str, float | Tensor]) -> bool | None:
        """Whether what was measured counts as solved; None: nothing says what that is."""
        if self.monitor is None or self.at_least is None:
            return module.task.solved(float(metrics["val/loss"]))
        return float(metrics[self.monitor]) >= self.at_least

    def on_validation_end(self, trainer, module) -> None:
        metrics = trainer.callback_metrics
        if "val/loss" in metrics and self.solved(module, metrics):
            self.steps_to_solve = trainer.global_step
            trainer.should_stop = True


class Charts(L.Callback):
    """Of a run by itself, TensorBoard's Custom Scalars page: losses beside the baselines', and the gradient against the
    lag beside what theory expects. That of a sweep is `summary.summarise`'s: the lines of one run share its color."""

    def on_train_start(self, trainer, module) -> None:
        writer = tensorboard(trainer)
        if not writer or (HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN):
            return
        baselines = [tag(name) for name in module.baseline_tags()]
        losses = {
            f"{said} loss, and the baselines'": ["Multiline", [tag(f"{name}/loss"), *baselines]]
            for said, name in (("validation", "val"), ("training", "train"))
        }
        layer: Any = from_torch(module.recurrent)
        curves = {
            f"dL/d{state}{end} against the lag, in decades": [
                "Multiline",
                [
                    tag(f"gradient_against_lag/log10_dL_d{state}_{when}{end}")
                    for when in ("at_init", "predicted", "at_end")
                ],
            ]
            for state in layer.cell().states
            for end in [suffix(module.recurrent, *place) for place in places(module.recurrent)]
        }
        writer.add_custom_scalars({"loss": losses, "gradient": curves})


class Examples(L.Callback):
    """What the trained model does, `task.examples`, after its test: in TensorBoard, and as files NAME.png and NAME.txt.

    Args:
        dirpath: the folder of the files.
    """

    def __init__(self, dirpath: str | Path) -> None:
        self.dirpath = Path(dirpath)

    def on_test_end(self, trainer, module) -> None:
        if not trainer.is_global_zero:
            return
        try:
            examples = module.task.examples(module.predictor())
            for name, example in examples.items():
                self._show(tensorboard(trainer), trainer.global_step, name, example)
        except Exception as error:  # no example is worth a run
            warnings.warn(f"no examples: {type(error).__name__}: {error}", stacklevel=1)

    def _show(self, writer: SummaryWriter | None, step: int, name: str, example: Figure | str) -> None:
        self.dirpath.mkdir(parents=True, exist_ok=True)
        file = self.dirpath / re.sub(r"\W+", "_", name)
        if isinstance(example, str):
            file.with_suffix(".txt").write_text(example, encoding="utf-8")
            if writer:  # which shows markdown, and cuts long lines off
                lines = [line[k : k + WIDE] for line in example.split("\n") for k in range(0, max(len(line), 1), WIDE)]
                writer.add_text(
                    tag(f"examples/{name}"), textwrap.indent("\n".join(lines), "    ", lambda line: True), step
                )
        else:
            example.savefig(file.with_suffix(".png"), dpi=150)
            if writer:
                writer.add_figure(tag(f"examples/{name}"), example, step)
