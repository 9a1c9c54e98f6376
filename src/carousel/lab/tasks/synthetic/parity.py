"""The parity problem."""

import math
from dataclasses import dataclass

import torch

from ..task import Batch, Classification, Generated


@dataclass(frozen=True)
class Parity(Generated, Classification):
    """Tell whether the number of ones is odd (Bengio, Simard & Frasconi 1994, section V; here without noise).

    Each step shows a bit, 0 as -1 and 1 as 1.

        bit  1  0  1  1  0
        x    1 -1  1  1 -1      three ones: target class 1 of (even, odd)

    Every 1 turns the answer over, and all bits but one say nothing about it: the state has to be updated at every
    step. The loss is the cross-entropy; chance is log 2.
    """

    seq_len: int
    input_size = 1
    output_size = 2
    baseline_loss = math.log(2)
    shortest = 2

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        bits = torch.randint(2, (num, self.seq_len), generator=generator)
        return Batch(2.0 * bits[..., None] - 1, bits.sum(1) % 2)  # (num, T, 1), (num,)
