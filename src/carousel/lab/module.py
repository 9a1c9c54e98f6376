"""The LightningModule that trains any recurrent layer, ours or torch's, on any task."""

from collections.abc import Callable, Iterable

import lightning as L
import torch
from torch import Tensor, nn

from .tasks import Task


class SequenceModule(L.LightningModule):
    """A recurrent layer, and a linear readout of its last output, in each direction where it has read everything.

    Args:
        recurrent: batch-first, with nn.LSTM's interface: (B, T, input_size) -> ((B, T, H), state).
        task: the loss, and the sizes of input and output.
        optimizer: called with the parameters.
    """

    def __init__(
        self,
        recurrent: nn.Module,
        task: Task,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    ) -> None:
        super().__init__()
        self.recurrent, self.task, self.optimizer = recurrent, task, optimizer
        dtype = next(recurrent.parameters()).dtype
        self.readout = nn.Linear(_output_size(recurrent), task.output_size, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.recurrent(x.to(self.readout.weight.dtype))  # (B, T, H)
        last = output[:, -1]  # (B, H)
        if getattr(self.recurrent, "bidirectional", False):  # each direction where it has read the whole sequence
            half = output.size(-1) // 2
            last = torch.cat([output[:, -1, :half], output[:, 0, half:]], -1)
        return self.readout(last)  # (B, output_size)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, target = batch
        return self.task.loss(self(x), target)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = self.loss(batch)
        self._log_step()
        self.log("train/loss", loss)
        return loss

    def _log_step(self) -> None:
        """Let the loggers count the updates that were made, as the probes do; Lightning's own is one less
        in a validation."""
        self.log("step", float(self.global_step), sync_dist=True)

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        x, target = batch
        prediction = self(x)
        self._log_step()
        self.log(f"{split}/loss", self.task.loss(prediction, target), prog_bar=True, sync_dist=True)
        self.log(f"{split}/{self.task.accuracy_name}", self.task.accuracy(prediction, target), sync_dist=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._evaluate(batch, "val")
        self.log("val/chance", self.task.chance, sync_dist=True)

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._evaluate(batch, "test")

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        """Before clipping, which Lightning does after this hook."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("grad_norm/total", nn.utils.get_total_norm(gradients))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())


def _output_size(recurrent: nn.Module) -> int:
    if (size := getattr(recurrent, "output_size", None)) is not None:
        return size
    if hasattr(recurrent, "cell"):
        size = recurrent.cell(recurrent.num_layers - 1).output_size
    else:  # of torch's
        size = recurrent.proj_size or recurrent.hidden_size
    return (1 + recurrent.bidirectional) * size
