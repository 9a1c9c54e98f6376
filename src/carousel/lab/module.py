"""The LightningModule that trains any recurrent layer, ours or torch's, on any task."""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from .data import of_all_processes, process
from .model import SequenceModel
from .tasks import Batch, Predictor, Stream, Task, marked, real

ABSURD = 1e6
"""How many times the baseline's a loss is that has run away."""
TRAINING = ("train/loss", "grad_norm/total")
"""What is measured at training steps, before each update."""


class Unprofiled(PassThroughProfiler):
    """For what nobody profiles: Lightning's own makes a context for each hook, thirty a training step."""

    nothing = contextlib.nullcontext()

    def profile(self, action_name: str) -> Any:
        return self.nothing


def log(trainer: L.Trainer, values: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


class SequenceModule(L.LightningModule):
    """A model, the task that it learns, and how.

    Args:
        model: predicts.
        task: the loss, the metrics and the baselines.
        optimizer: called with the parameters; None for a model that is not to be trained.
        scheduler: called with the optimizer; it steps after every training step, or, if it looks at the loss
            (ReduceLROnPlateau), after every validation.
    """

    def __init__(
        self,
        model: SequenceModel,
        task: Task,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.task, self.optimizer, self.scheduler = model, task, optimizer, scheduler
        self.metrics: Any = nn.ModuleDict({split: nn.ModuleList(task.metrics().values()) for split in ("val", "test")})
        self._names = list(task.metrics())  # in which there may be dots, so that no ModuleDict holds them
        self._states: dict[str, Any] = {}  # carried over, by split
        self._measured: dict[str, Tensor] = {}  # at the training step at hand
        self.baseline_losses: dict[str, float] = {}
        """On the validation data, by name; the first is what losses are compared with."""
        self.configuration: dict[str, Any] = {}
        """Of the run that it was loaded from."""
        self.diverged: str | None = None
        """How the training loss has run away, and when; such a run is stopped."""

    @property
    def recurrent(self) -> nn.Module:
        return self.model.recurrent

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Predictions (B, output_size), or (B, T, output_size) where the task has a target at every step.

        Args:
            input: (B, T, input_size), or symbols (B, T).
            lengths: (B,), how many steps of each sequence are real; None: all.
        """
        return self.model(input, lengths)[0]

    def predict(self, batch: Batch, split: str | None = None) -> Tensor:
        """Predictions; with a split the state of a stream is carried over from its batch before."""
        state = self._states.get(split) if split and batch.goes_on else None
        prediction, state = self.model(batch.input, batch.lengths, state)
        if split and isinstance(self.task, Stream):
            self._states[split] = detached(state)
        return prediction

    def predictor(self) -> Predictor:
        """Of batches on the CPU, without gradients and dropout; where a batch goes on, the state is carried over."""

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            training = self.training
            self.eval()
            prediction = self.predict(move_data_to_device(batch, self.device), "predictor")
            self.train(training)
            return prediction.cpu()

        return predict

    def loss(self, batch: Batch, split: str | None = None) -> Tensor:
        return self.task.loss(*real(self.task, batch, self.predict(batch, split)))

    def last_loss(self, batch: Batch) -> Tensor:
        """The loss at the last target of each sequence alone, from where the measures look back."""
        prediction, target = self.predict(batch), batch.target
        if self.task.every_step:
            mask = marked(batch)
            last = mask.size(1) - 1 - mask.flip(1).int().argmax(1)  # (B,)
            some = mask.any(1)
            rows = torch.arange(len(some), device=some.device)[some]
            prediction, target = prediction[rows, last[some]], target[rows, last[some]]
        return self.task.loss(prediction, target)

    def __setattr__(self, name: str, value: Any) -> None:
        """Of which hook it is in Lightning keeps the name here, forty times a training step: it needs none of what a
        module does to see whether that is a parameter."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def on_fit_start(self) -> None:
        self._states = move_data_to_device(self._states, self.device)
        losses, trainer = {}, self.trainer
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning leaves it out
        for name, predict in self.task.baselines().items():
            batches = part(data.val_dataloader(), trainer.limit_val_batches)
            losses[name] = scores(self.task, predict, batches).get("loss", math.nan)
        if losses and self.task.baseline_loss is not None:
            losses[next(iter(losses))] = self.task.baseline_loss
        self.baseline_losses = losses

    @property
    def baseline_loss(self) -> float | None:
        """What losses are compared with: the first baseline's, once training has begun."""
        return next(iter(self.baseline_losses.values()), None)

    def baseline_tags(self) -> list[str]:
        """What the baselines' losses are called in the logs."""
        return [f"val/baseline_{name}" for name in self.baseline_losses]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task"] = self.task.fitted()
        checkpoint["carried"] = of_all_processes(move_data_to_device(self._states.get("train"), torch.device("cpu")))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._states["train"] = checkpoint["carried"][process()[0]]

    def ran_away(self, loss: float) -> bool:
        """Whether a loss is not finite, or beyond all bounds."""
        baseline = self.baseline_loss or 1.0
        return not -math.inf < loss <= ABSURD * (abs(baseline) if math.isfinite(baseline) else 1.0)

    def _stop_if_diverged(self, loss: Tensor) -> None:
        """To look at a loss on a GPU, or at those of other processes, is to wait for it: there, only where it is logged
        anyway."""
        here = loss.device.type == "cpu" and self.trainer.world_size == 1
        if not (here or self.trainer._logger_connector.should_update_logs):
            return
        seen = (loss if here else self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")).item()
        if self.ran_away(seen):
            self.diverged = self.diverged or f"train/loss is {seen:.4g} at training step {self.global_step}"
            self.trainer.should_stop = True

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = self.loss(batch, "train")
        self._stop_if_diverged(loss)
        self._measured["train/loss"] = loss.detach().clone()  # which processes reduce in place
        return loss

    training_step.__signature__ = inspect.signature(training_step)  # which Lightning asks for at every step

    def _is_read(self) -> bool:
        """Whether what is measured at this training step will be read: by the loggers, a callback, a validation or the
        record of the run."""
        trainer: Any = self.trainer
        return (
            trainer._logger_connector.should_update_logs
            or trainer.global_step + 1 == trainer.max_steps
            or (trainer.fit_loop.total_batch_idx + 1) % trainer.val_check_batch == 0
            or any(getattr(callback, "monitor", None) in TRAINING for callback in trainer.callbacks)
            or self.diverged is not None
        )

    def _log_step(self) -> None:
        """Let the loggers count the updates that were made, as the probes do; Lightning's own is one less
        in a validation."""
        self.log("step", float(self.global_step), sync_dist=True, batch_size=1)

    def _evaluate(self, batch: Batch, split: str) -> None:
        prediction, target = real(self.task, batch, self.predict(batch, split))
        self._log_step()
        if not len(target):
            return
        loss = self.task.loss(prediction, target)
        self.log(f"{split}/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(target), on_epoch=True)
        for name, metric in zip(self._names, self.metrics[split], strict=True):
            metric.update(prediction, target)
            self.log(f"{split}/{name}", metric, on_step=False, on_epoch=True, batch_size=len(target))

    def validation_step(self, batch: Batch, _: int) -> None:
        self._evaluate(batch, "val")
        for name, loss in zip(self.baseline_tags(), self.baseline_losses.values(), strict=True):
            self.log(name, loss, sync_dist=True, batch_size=1)

    def test_step(self, batch: Batch, _: int) -> None:
        self._evaluate(batch, "test")

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log what is measured at a training step, before clipping, which Lightning does after this hook. The loggers
        get it directly: Lightning's `log` takes the better part of a millisecond a number, as long as a step of a
        small cell."""
        if not self._is_read():
            return
        trainer: Any = self.trainer
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        values = {name: trainer.strategy.reduce(value, reduce_op="mean") for name, value in self._measured.items()}
        values["grad_norm/total"] = nn.utils.get_total_norm(gradients)
        if self.scheduler:
            values["lr"] = torch.tensor(optimizer.param_groups[0]["lr"])
        trainer._logger_connector._callback_metrics.update(values)
        if trainer._logger_connector.should_update_logs:
            log(trainer, {name: float(value) for name, value in values.items()})

    def _updates_between_validations(self) -> int:
        batches, every = self.trainer.accumulate_grad_batches, self.trainer.val_check_interval
        if every % batches:
            raise ValueError(
                "trainer.val_check_interval must be a multiple of trainer.accumulate_grad_batches for this scheduler, "
                f"got {every} and {batches}"
            )
        return int(every // batches)

    def configure_optimizers(self) -> Any:
        make: Any = self.optimizer
        optimizer = make(self.parameters())
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        plan = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, ReduceLROnPlateau):
            plan |= {"monitor": "val/loss", "frequency": self._updates_between_validations()}
        return {"optimizer": optimizer, "lr_scheduler": plan}


def detached(state: Any) -> Any:
    """A state, or a tuple or list of them, outside of the graph."""
    if isinstance(state, Tensor):
        return state.detach()
    return type(state)(map(detached, state))


def part(loader: DataLoader, limit: int | float) -> Iterable[Batch]:
    """The batches of an evaluation, as many as the trainer's limit says: a number, or a share."""
    return itertools.islice(loader, limit if isinstance(limit, int) else round(limit * len(loader)))


@torch.no_grad()
def scores(task: Task, predict: Predictor, batches: Iterable[Batch]) -> dict[str, float]:
    """The loss and the metrics of a predictor over some data, such as a baseline's."""
    metrics, total, count = task.metrics(), 0.0, 0
    for batch in batches:
        prediction, target = real(task, batch, predict(batch))
        if len(target):
            total += float(task.loss(prediction, target)) * len(target)
            count += len(target)
            for metric in metrics.values():
                metric.update(prediction, target)
    if not count:
        return {}
    return {"loss": total / count} | {name: float(metric.compute()) for name, metric in metrics.items()}
