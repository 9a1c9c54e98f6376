"""The adding problem as it was first posed."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from ..task import Batch, Generated, Predictor, Regression, Share, always
from .adding import close


@dataclass(frozen=True)
class Adding1997(Generated, Regression):
    """Add two marked numbers (Hochreiter & Schmidhuber 1997, section 5.4), in the form of that paper.

    Each step shows a number from U(-1, 1) and a mark: 1 at two of them, -1 at both ends of the sequence, and 0
    elsewhere. The first of the two is among the first ten steps, the second, another one, in the first half. If a
    marked number stands at the very beginning it is 0. Sequences have `seq_len` to 1.1 times as many steps.

        number  0.3  0.7  0.1 -0.9  0.5  0.2
        mark    -1    1    0    1    0   -1      target 0.5 + (0.7 - 0.9) / 4 = 0.45

    The output unit is logistic: what the network predicts is its logit. The loss is half the squared error; that of
    always answering 0.5, half of Var(X1 + X2) / 16 or a little under 1/48, is the baseline loss. A prediction is right
    if it is off by less than 0.04, as in the paper.

    Raises:
        ValueError: `seq_len` is no integer, or under 22.
    """

    seq_len: int
    input_size = 2
    output_size = 1
    shortest = 22

    @property
    def baseline_loss(self) -> float:
        at_the_beginning = 1 / 10 + 9 / 10 / (self.seq_len // 2 - 2)  # of the two numbers, in the mean
        return (1 - at_the_beginning / 2) / 48

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        lengths = torch.randint(self.seq_len, int(1.1 * self.seq_len) + 1, (num,), generator=generator)
        longest = int(lengths.max())
        number = 2 * torch.rand(num, longest, generator=generator) - 1
        first = torch.randint(10, (num,), generator=generator)
        second = torch.randint(self.seq_len // 2 - 2, (num,), generator=generator)
        second = second + (second >= first)  # of the first half without the one that is marked
        row, mark = torch.arange(num), torch.zeros(num, longest)
        mark[row, 0] = mark[row, lengths - 1] = -1
        number[first == 0, 0] = 0
        number[second == 0, 0] = 0
        mark[row, first] = mark[row, second] = 1
        marked = number[row, first] + number[row, second]
        padding = torch.arange(longest) >= lengths[:, None]
        x = torch.stack([number, mark], -1).masked_fill(padding[..., None], 0)
        return Batch(x, 0.5 + marked[:, None] / 4, lengths)  # (num, T, 2), (num, 1)

    def longest(self) -> int:
        return int(1.1 * self.seq_len)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.sigmoid() - self._checked(target)).square().mean() / 2

    def answer(self, prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    def metrics(self) -> dict[str, Metric]:
        return {"within_0.04": Share(lambda prediction, target: close(prediction.sigmoid(), target))}

    def baselines(self) -> dict[str, Predictor]:
        return {"best constant": always(self, torch.zeros(1))}
