"""The temporal order problem."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from ..task import Batch, Classification, Generated


@dataclass(frozen=True)
class TemporalOrder(Generated, Classification):
    """Tell the order of widely separated symbols (Hochreiter & Schmidhuber 1997, section 5.6, tasks 6a and 6b).

    A sequence begins with E, ends with B, and is filled with distractors a to d, but for some symbols, X or Y each:
    of two, one after a tenth to a fifth of the length, the other after a half to six tenths.

        E d X b a c Y d a B      target XY, class 1 of (XX, XY, YX, YY)

    `relevant` is how many: 2 (task 6a), 3 (task 6b), or 4, which are further apart from one another the fewer they
    are. Symbols are one-hot, in the order a b c d X Y E B. The loss is the cross-entropy; chance is the log of the
    number of classes, log 4, log 8 or log 16.

    Raises:
        ValueError: `seq_len` is no integer or under 10, or `relevant` is none of these.
    """

    begins: ClassVar[dict[int, tuple[float, ...]]] = {2: (1, 5), 3: (1, 3.3, 6.6), 4: (1, 3, 5, 7)}
    """In tenths of the length, each the first of a tenth's places where a relevant symbol may stand."""

    seq_len: int
    relevant: int = 2
    input_size = 8
    shortest = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.relevant) is not int or self.relevant not in self.begins:
            raise ValueError(f"relevant must be 2, 3 or 4, got {self.relevant}")

    @property
    def output_size(self) -> int:
        return 2**self.relevant

    @property
    def baseline_loss(self) -> float:
        return math.log(self.output_size)

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        tenth = self.seq_len / 10
        symbols = torch.randint(4, (num, self.seq_len), generator=generator)
        kinds = torch.randint(2, (num, self.relevant), generator=generator)  # 0 is X, 1 is Y
        for k, begin in enumerate(self.begins[self.relevant]):
            low, high = int(begin * tenth), int((begin + 1) * tenth)
            where = torch.randint(low, high + 1, (num, 1), generator=generator)
            symbols.scatter_(1, where, 4 + kinds[:, k : k + 1])
        symbols[:, 0], symbols[:, -1] = 6, 7
        digits = 2 ** torch.arange(self.relevant).flip(0)
        return Batch(F.one_hot(symbols, 8).float(), (kinds * digits).sum(1))  # (num, T, 8), (num,)
