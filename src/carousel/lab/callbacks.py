"""Measures while training, for TensorBoard and for the run's folder."""

import csv
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..gradients import flow, memory_length
from ..twins import from_torch
from . import figures
from .module import SequenceModule
from .results import write


def log(trainer: L.Trainer, values: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def tensorboard(trainer: L.Trainer) -> SummaryWriter | None:
    return next((lg.experiment for lg in trainer.loggers if isinstance(lg, TensorBoardLogger)), None)


class Probe(L.Callback):
    """Something measured on the same validation sequences: before training, every `every_n_steps`, and at the end.

    Raises:
        ValueError: an argument is under 1.
    """

    def __init__(self, every_n_steps: int, num_sequences: int) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("num_sequences", num_sequences)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value}")
        self.every_n_steps, self.num_sequences = every_n_steps, num_sequences
        self.measured_at = -1

    def measure(self, trainer: L.Trainer, module: SequenceModule, batch: tuple[Tensor, Tensor]) -> None:
        raise NotImplementedError

    def _measure(self, trainer: L.Trainer, module: SequenceModule) -> None:
        if trainer.global_step == self.measured_at:
            return
        self.measured_at = trainer.global_step
        batch = next(iter(trainer.datamodule.val_dataloader()))
        self.measure(trainer, module, tuple(part[: self.num_sequences].to(module.device) for part in batch))

    def on_train_start(self, trainer, module) -> None:
        self._measure(trainer, module)

    def on_train_batch_end(self, trainer, module, *_) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, module)

    def on_train_end(self, trainer, module) -> None:
        self._measure(trainer, module)


class GradientFlow(Probe):
    """The gradient with respect to each state against the lag, as `carousel.gradients.flow` measures it.

    TensorBoard: the curve at initialisation and at the end (scalars with the lag as the step), a heatmap of training
    step x lag, and the memory length over training. File: step, state, lag, log10_norm. With several
    layers or directions, h_0 and h_1 are the states of the first and the second, in the order of torch's.
    """

    def __init__(self, path: str | Path, every_n_steps: int, num_sequences: int) -> None:
        super().__init__(every_n_steps, num_sequences)
        self.path = Path(path)
        self.history: dict[str, dict[int, Tensor]] = {}  # state -> training step -> (T,)
        self.memory: dict[int, dict[str, int]] = {}  # training step -> state -> lag

    def measure(self, trainer, module, batch) -> None:
        step = trainer.global_step
        flows = flow(module.recurrent, lambda: module.loss(batch))
        layers = [""] if len(flows) == 1 else [f"_{k}" for k in range(len(flows))]
        curves = {f"{s}{k}": c.cpu() for k, f in zip(layers, flows, strict=True) for s, c in f.rms().items()}
        for state, curve in curves.items():
            self.history.setdefault(state, {})[step] = curve
        self.memory[step] = {state: memory_length(curve) for state, curve in curves.items()}
        log(trainer, {f"memory_length/{state}": float(lag) for state, lag in self.memory[step].items()})
        if step == 0:
            self._write_curves(trainer, "at_init", curves)
        if trainer.is_global_zero:
            write(self.path, self._save)

    def _save(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("step", "state", "lag", "log10_norm"))
            for state, curves in self.history.items():
                for step, curve in curves.items():
                    rows.writerows((step, state, lag, f"{y:.4f}") for lag, y in enumerate(curve.tolist()))

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


class KeepGate(Probe):
    """The mean over sequences, steps and units of the gate that keeps the old state (f of an LSTM, z of a GRU)."""

    def measure(self, trainer, module, batch) -> None:
        layer = from_torch(module.recurrent)
        if gate := layer.cell().keep_gate:
            with torch.no_grad():
                records = layer.inspect(batch[0])
            log(trainer, {f"gates/{gate}_mean": torch.stack([r[gate].mean() for r in records]).mean().item()})


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
