"""The latch problem."""

import math
from dataclasses import dataclass

import torch

from ..task import Batch, Classification, Generated


@dataclass(frozen=True)
class Latch(Generated, Classification):
    """Keep the first symbol through noise (after Bengio, Simard & Frasconi 1994, section II).

    The first step shows the class, -1 or 1; every later one shows noise from N(0, 1), on a channel of its own.

        symbol  -1    0    0    0    0    0
        noise    0  0.3 -1.2  0.8  0.1 -0.5      target class 0 of (-1, 1)

    There, the values that stand for the classes are trained with the network, noise follows on the same channel, and
    the loss is a squared error. Here the noise can be told from the symbol at sight, so that nothing but memory is
    asked for; the loss is the cross-entropy, and chance is log 2.
    """

    seq_len: int
    input_size = 2
    output_size = 2
    baseline_loss = math.log(2)
    shortest = 2

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        kind = torch.randint(2, (num,), generator=generator)
        x = torch.zeros(num, self.seq_len, 2)
        x[:, 0, 0] = 2.0 * kind - 1
        x[:, 1:, 1] = torch.randn(num, self.seq_len - 1, generator=generator)
        return Batch(x, kind)  # (num, T, 2), (num,)
