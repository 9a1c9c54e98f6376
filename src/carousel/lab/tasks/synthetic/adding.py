"""The adding problem."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from ..task import Batch, Generated, Regression, Share


@dataclass(frozen=True)
class Adding(Generated, Regression):
    """Add two marked numbers (Hochreiter & Schmidhuber 1997, section 5.4; in the form of Arjovsky et al. 2016).

    Each step shows a number from U(0, 1) and a mark; one mark falls in the first half, one in the second.

        number  0.3  0.7  0.1  0.9  0.5  0.2
        mark     0    1    0    0    1    0      target 0.7 + 0.5 = 1.2

    The loss is the mean squared error. Always answering 1 costs Var(U + U) = 1/6: the baseline loss. A prediction is
    right if it is off by less than 0.04, the criterion of Hochreiter & Schmidhuber.
    """

    seq_len: int
    input_size = 2
    output_size = 1
    baseline_loss = 1 / 6
    shortest = 2

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        number = torch.rand(num, self.seq_len, generator=generator)
        where = self.places(num, generator)
        mark = F.one_hot(where, self.seq_len).sum(1).float()
        marked = number.gather(1, where)  # (num, 2)
        return Batch(torch.stack([number, mark], -1), self.answer(marked)[:, None])  # (num, T, 2), (num, 1)

    def places(self, num: int, generator: torch.Generator) -> Tensor:
        """(num, 2): where the marks are."""
        half = self.seq_len // 2
        first = torch.randint(half, (num,), generator=generator)
        return torch.stack([first, torch.randint(half, self.seq_len, (num,), generator=generator)], 1)

    def answer(self, marked: Tensor) -> Tensor:
        """(num,), of the marked numbers (num, 2)."""
        return marked.sum(1)

    def metrics(self) -> dict[str, Metric]:
        return {"within_0.04": Share(close)}


def close(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs() < 0.04
