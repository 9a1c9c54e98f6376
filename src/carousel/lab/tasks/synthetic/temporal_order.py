"""The temporal order problem."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..task import Batch, Classification, Generated


@dataclass(frozen=True)
class TemporalOrder(Generated, Classification):
    """Tell the order of two widely separated symbols (Hochreiter & Schmidhuber 1997, section 5.6, task 6a).

    A sequence begins with E, ends with B, and is filled with distractors a to d, but for two symbols, X or Y each: one
    after a tenth to a fifth of the length, the other after a half to six tenths.

        E d X b a c Y d a B      target XY, class 1 of (XX, XY, YX, YY)

    Symbols are one-hot, in the order a b c d X Y E B. The loss is the cross-entropy; chance is log 4.
    """

    seq_len: int
    input_size = 8
    output_size = 4
    chance = math.log(4)
    shortest = 10

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        tenth = self.seq_len / 10
        symbols = torch.randint(4, (num, self.seq_len), generator=generator)
        kinds = torch.randint(2, (num, 2), generator=generator)  # 0 is X, 1 is Y
        for k, begin in enumerate((1, 5)):
            low, high = int(begin * tenth), int((begin + 1) * tenth)
            where = torch.randint(low, high + 1, (num, 1), generator=generator)
            symbols.scatter_(1, where, 4 + kinds[:, k : k + 1])
        symbols[:, 0], symbols[:, -1] = 6, 7
        return Batch(F.one_hot(symbols, 8).float(), 2 * kinds[:, 0] + kinds[:, 1])  # (num, T, 8), (num,)
