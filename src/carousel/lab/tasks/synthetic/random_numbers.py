"""Random numbers, with which beginners' examples try a network out."""

from dataclasses import dataclass

import torch

from ..task import Batch, Generated, Regression


@dataclass(frozen=True)
class RandomNumbers(Generated, Regression):
    """Tell a random number from others, which say nothing of it: all are from U(0, 1).

    As in `x, y = np.random.random((1000, 5, 10)), np.random.random((1000, 1))`, with which many an introduction tries
    its LSTM out. A sequence of 2 steps, of 3 features in place of 10:

        0.3  0.7  0.1
        0.9  0.5  0.2      target 0.8

    The loss is the mean squared error. Always answering 1/2 costs Var(U) = 1/12, the baseline loss, and nothing
    does better on new data. Of a fixed set (train_size=1000) a network learns the targets by heart: its training loss
    falls below 1/12, its validation loss rises above.
    """

    seq_len: int
    input_size = 10
    output_size = 1
    baseline_loss = 1 / 12
    shortest = 1

    def solved(self, loss: float) -> None:
        """There is nothing to be solved."""

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        numbers = torch.rand(num, self.seq_len * self.input_size + 1, generator=generator)
        return Batch(numbers[:, 1:].unflatten(1, (self.seq_len, self.input_size)), numbers[:, :1])
