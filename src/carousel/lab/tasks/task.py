"""What a task publishes: sequences, what is to be predicted of them, and how a prediction is scored.

A task is a source of data, `Generated`, `Recorded` or `Stream`, and a kind of target, `Classification` or
`Regression`.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MeanMetric, MeanSquaredError, Metric
from torchmetrics.classification import MulticlassAccuracy

IGNORE = -100
"""The class of a step that has no target, as in `F.cross_entropy`. Where targets are numbers it is nan."""
SPLITS = ("train", "val", "test")


class Batch(NamedTuple):
    """Sequences side by side."""

    input: Tensor
    """(B, T, input_size), or symbols (B, T)."""
    target: Tensor
    """(B, ...) for the end of each sequence, or (B, T, ...) for every step."""
    lengths: Tensor | None = None
    """(B,): how many steps of each sequence are real, and no padding; None: all."""
    goes_on: bool = False
    """Whether each row goes on where the same row of the batch before has ended: the state is carried over."""

    def at(self, which: Tensor | slice) -> "Batch":
        """Some of the sequences."""
        lengths = None if self.lengths is None else self.lengths[which]
        return Batch(self.input[which], self.target[which], lengths)


Predictor = Callable[[Batch], Tensor]
"""Predictions (B, output_size), or (B, T, output_size) of a task with a target at every step."""


class Task:
    """The contract. A subclass says the sizes, and takes its source and its kind of target from those below.

    A task of sequences that have all one length says it as `seq_len`.
    """

    input_size: int
    """Features of a step, or how many symbols there are."""
    output_size: int
    symbols: bool = False
    """Whether inputs are symbols (B, T), which the model encodes, in place of vectors."""
    every_step: bool = False
    """Whether there is a target at every step, in place of one at the end of the sequence."""
    looks_ahead: bool = False
    """Whether targets are inputs of later steps, so that a bidirectional layer would read them."""
    baseline_loss: float | None = None
    """Of the first baseline, which losses are compared with: what is expected, where that is known without data."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean loss, a scalar, of predictions (N, output_size) of those steps that have a target."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Metric]:
        """By name, new ones; they are given what `loss` is given."""
        return {}

    def baselines(self) -> dict[str, Predictor]:
        """What needs no training, by name, fitted on the training split alone. Losses are compared with the first."""
        return {}

    def solved(self, loss: float) -> bool | None:
        """Whether a validation loss counts as solved; None: the task does not say what that is."""
        return None

    def examples(self, predict: Predictor) -> dict[str, Figure | str]:
        """What a trained model does, to be looked at in TensorBoard: figures and texts, by name.

        `predict` takes batches on the CPU; where one goes on, the state is carried over.
        """
        return {}

    def read(self, data: Tensor) -> Tensor:
        """New data, (B, T, ...), in the task's own units, as the model's inputs."""
        return data

    def answer(self, prediction: Tensor) -> Tensor | list[str]:
        """Predictions (N, output_size) in the task's own units, or words."""
        return prediction

    def fitted(self) -> object:
        """What inputs are made by that was read off the training data, such as a vocabulary, in plain values: it is
        saved with a model, so that this can be used without the data."""
        return None

    def recall(self, fitted: object) -> None:
        """Use what was `fitted`, and do not read it off the data again."""

    def training_targets(self) -> Tensor:
        """Enough targets of training data, (N, ...), to tell the best constant answer."""
        raise NotImplementedError

    def longest(self) -> int:
        """The number of steps of the longest sequence, over which an error may have to travel."""
        raise NotImplementedError


class Generated(Task):
    """A source without end: `sample` makes sequences.

    Raises:
        ValueError: `seq_len` is no integer, or under `shortest`.
    """

    shortest: ClassVar[int | None] = None
    """The least `seq_len` that the task can have; None: it has no such option."""

    def __post_init__(self) -> None:
        seq_len = getattr(self, "seq_len", None)
        if self.shortest is not None and (type(seq_len) is not int or seq_len < self.shortest):
            raise ValueError(f"seq_len must be an integer of at least {self.shortest}, got {seq_len}")

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        """`num` sequences, in which chance is the generator's alone."""
        raise NotImplementedError

    def tested(self) -> "Generated":
        """The task whose sequences are the test data: this one, or one of longer sequences, say."""
        return self

    def solved(self, loss: float) -> bool | None:
        """A tenth of the best constant answer's loss or less."""
        return None if self.baseline_loss is None else loss <= 0.1 * self.baseline_loss

    def training_targets(self) -> Tensor:
        batch = self.sample(1000, torch.Generator().manual_seed(0))
        return batch.target[marked(batch)] if self.every_step else batch.target

    def longest(self) -> int:
        return self.sample(1000, torch.Generator().manual_seed(0)).input.size(1)


class Recorded(Task):
    """A source of finitely many sequences, in splits that have none in common."""

    def split(self, name: str) -> Batch:
        """All sequences of "train", "val" or "test"."""
        raise NotImplementedError

    def training_targets(self) -> Tensor:
        batch = self.split("train")
        return batch.target[marked(batch)] if self.every_step else batch.target

    def longest(self) -> int:
        train = self.split("train")
        return train.input.size(1) if train.lengths is None else int(train.lengths.max())


class Stream(Task):
    """One long sequence, read in chunks of `chunk` steps with the state carried over (truncated backpropagation).

    Raises:
        ValueError: `chunk` is no integer, or under 1.
    """

    every_step = True
    looks_ahead = True
    chunk: int

    def __post_init__(self) -> None:
        if type(self.chunk) is not int or self.chunk < 1:
            raise ValueError(f"chunk must be an integer of at least 1, got {self.chunk}")

    def series(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs (N, ...) and targets (N, ...) of "train", "val" or "test", step by step."""
        raise NotImplementedError

    def training_targets(self) -> Tensor:
        return self.series("train")[1]

    def longest(self) -> int:
        return self.chunk


class Classification(Task):
    """Targets are classes, of `output_size`; the loss is the cross-entropy, in nats."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target)

    def answer(self, prediction: Tensor) -> Tensor | list[str]:
        """The likeliest classes, (N,)."""
        return prediction.argmax(-1)

    def metrics(self) -> dict[str, Metric]:
        return {"accuracy": MulticlassAccuracy(self.output_size, average="micro")}

    def baselines(self) -> dict[str, Predictor]:
        counts = self.training_targets().bincount(minlength=self.output_size)
        return {"most frequent class": always(self, (counts / counts.sum()).clamp(min=1e-9).log())}


class Regression(Task):
    """Targets are numbers (..., output_size); the loss is the mean squared error."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(prediction, self._checked(target))

    def _checked(self, target: Tensor) -> Tensor:
        if target.shape[1:] != (self.output_size,):
            raise ValueError(f"the task's targets should be (..., {self.output_size}), got {tuple(target.shape)}")
        return target

    def metrics(self) -> dict[str, Metric]:
        return {"rmse": MeanSquaredError(squared=False, num_outputs=1)}

    def baselines(self) -> dict[str, Predictor]:
        return {"best constant": always(self, self._checked(self.training_targets()).mean(0))}


class Share(MeanMetric):
    """The share of what is right: `right(prediction, target)` gives a truth value for each thing that counts."""

    higher_is_better = True

    def __init__(self, right: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.right = right

    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(self.right(prediction, target).float())


def always(task: Task, answer: Tensor) -> Predictor:
    """A baseline that gives one answer (output_size,) to everything."""

    def predict(batch: Batch) -> Tensor:
        return answer.to(batch.input.device).expand(*batch.input.shape[: 1 + task.every_step], -1)

    return predict


def present(batch: Batch) -> Tensor:
    """(B, T): the steps that are no padding."""
    num, longest = batch.input.shape[:2]
    steps = torch.arange(longest, device=batch.input.device)
    return (steps < (longest if batch.lengths is None else batch.lengths[:, None])).expand(num, longest)


def marked(batch: Batch) -> Tensor:
    """(B, T): the steps that have a target, where there may be one at every step; padding has none."""
    target = batch.target.flatten(2) if batch.target.dim() > 2 else batch.target.unsqueeze(-1)  # (B, T, ...)
    mask = (target.isnan() if target.is_floating_point() else target == IGNORE).any(-1).logical_not()
    return mask & present(batch)


def real(task: Task, batch: Batch, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions (N, output_size) and targets (N, ...) of what has a target; contiguous, for torchmetrics."""
    if not task.every_step:
        return prediction.contiguous(), batch.target.contiguous()
    mask = marked(batch)
    return prediction[mask], batch.target[mask]
