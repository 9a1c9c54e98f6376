"""What a task publishes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """Sequences with one target each, to be predicted from the last step's output.

    Args:
        seq_len: number of time steps, T.

    Raises:
        ValueError: `seq_len` is no integer, or less than the task needs.
    """

    seq_len: int

    input_size: ClassVar[int]
    output_size: ClassVar[int]
    chance: ClassVar[float]
    """The expected loss of the best answer that ignores the sequence."""
    accuracy_name: ClassVar[str] = "accuracy"
    """What `accuracy` is called in the logs."""
    shortest: ClassVar[int]
    """The least `seq_len` that the task can have."""

    def __post_init__(self) -> None:
        if not isinstance(self.seq_len, int) or self.seq_len < self.shortest:
            raise ValueError(f"seq_len must be an integer of at least {self.shortest}, got {self.seq_len}")

    def sample(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`num` sequences: inputs (num, T, input_size) and targets (num, ...)."""
        raise NotImplementedError

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean loss of predictions (num, output_size), a scalar."""
        raise NotImplementedError

    def accuracy(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The share of predictions that are right, a scalar."""
        raise NotImplementedError

    def solved(self, loss: float) -> bool:
        """Whether a validation loss counts as solved: a tenth of chance or less."""
        return loss <= 0.1 * self.chance


class Classification(Task):
    """A task whose targets (num,) are classes, of `output_size`; the loss is the cross-entropy.

    Where the classes are equally likely, chance is log(output_size).
    """

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target)

    def accuracy(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.argmax(-1) == target).float().mean()
