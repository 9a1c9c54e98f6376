"""The languages a^n b^n and a^n b^n c^n."""

import math
from dataclasses import dataclass, replace
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from ..task import IGNORE, Batch, Classification, Generated, Predictor, Share, real


@dataclass(frozen=True)
class AnBn(Generated, Classification):
    """Count: so many a, then as many b, or b and c (Gers & Schmidhuber 2001).

    n is drawn from `n_min` to `n_max`, all equally likely. The target is the next symbol, from the first b on, where
    n decides it: how many a will come cannot be known, and is not asked for. E is the end.

        input   a a a b b b          input   a a b b c c
        target  - - - b b E          target  - - b c c E

    The loss is the cross-entropy. Who has not counted knows after a b no more than that it is the last with a
    probability of q, one in the mean n: the baseline loss is the entropy of that. A sequence is accepted if all
    predictions are right.

    The test sequences have an n from `test_n_min` to `test_n_max`, by default all beyond those of training, up to
    twice as long: whether what was learnt holds there.

    Args:
        letters: 2 for a^n b^n, 3 for a^n b^n c^n, and so on.
        test_n_min: None: `n_max + 1`.
        test_n_max: None: `2 * n_max`.

    Raises:
        ValueError: an option is no integer, `letters` not 2 to 26, or a range empty or of 1 alone.
    """

    n_min: int = 1
    n_max: int = 10
    letters: int = 2
    test_n_min: int | None = None
    test_n_max: int | None = None
    symbols = True
    every_step = True
    looks_ahead = True

    def __post_init__(self) -> None:
        if type(self.letters) is not int or not 2 <= self.letters <= 26:
            raise ValueError(f"letters must be an integer of 2 to 26, got {self.letters}")
        for test, ns in (("", lambda: (self.n_min, self.n_max)), ("test_", self.test_range)):
            low, high = ns()
            if type(low) is not int or type(high) is not int or not 1 <= low <= high or high < 2:
                raise ValueError(
                    f"{test}n_min and {test}n_max must be integers of at least 1 and 2, the first not over the "
                    f"second, got {low} and {high}"
                )

    def test_range(self) -> tuple[int, int]:
        low = self.n_max + 1 if self.test_n_min is None else self.test_n_min
        return low, 2 * self.n_max if self.test_n_max is None else self.test_n_max

    @property
    def input_size(self) -> int:
        return self.letters

    @property
    def output_size(self) -> int:
        return self.letters + 1

    @property
    def baseline_loss(self) -> float:
        last = 2 / (self.n_min + self.n_max)
        return -sum(p * math.log(p) for p in (last, 1 - last) if p > 0)

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        n = torch.randint(self.n_min, self.n_max + 1, (num,), generator=generator)
        return self.sequences(n)

    def sequences(self, n: Tensor) -> Batch:
        """Those of some n, (num,)."""
        lengths = self.letters * n
        step = torch.arange(int(lengths.max())).expand(len(n), -1)  # (num, T)
        n = n[:, None]
        asked = (step >= n) & (step < lengths[:, None])
        x = (step // n).clamp(max=self.letters - 1)
        return Batch(x, ((step + 1) // n).where(asked, IGNORE), lengths)

    def tested(self) -> "AnBn":
        low, high = self.test_range()
        return replace(self, n_min=low, n_max=high, test_n_min=None, test_n_max=None)

    def metrics(self) -> dict[str, Metric]:
        accuracy = MulticlassAccuracy(self.output_size, average="micro")
        return {"accuracy": accuracy, "accepted": Share(self.accepted)}

    def accepted(self, prediction: Tensor, target: Tensor) -> Tensor:
        """For each sequence, which ends with the target E, whether all of (N, output_size) is right."""
        ends = target == self.letters
        sequence = ends.cumsum(0) - ends.long()  # (N,)
        wrong = (prediction.argmax(-1) != target).float()
        return wrong.new_zeros(int(ends.sum())).index_add(0, sequence, wrong) == 0

    def baselines(self) -> dict[str, Predictor]:
        """The last symbol alone, without a count."""
        last = 2 / (self.n_min + self.n_max)
        answer = last * torch.eye(self.output_size)[1:] + (1 - last) * torch.eye(self.output_size)[:-1]
        answer = answer.clamp(min=1e-30).log()  # (letters, output_size)
        return {"the last symbol alone": lambda batch: F.embedding(batch.input, answer.to(batch.input.device))}

    def examples(self, predict: Predictor) -> dict[str, str]:
        """Up to which n it accepts."""
        highest = self.test_range()[1]
        accepted = []
        for n in range(1, highest + 1):
            batch = self.sequences(torch.tensor([n]))
            if self.accepted(*real(self, batch, predict(batch))).all():
                accepted.append(n)
        runs = [[n for _, n in run] for _, run in groupby(enumerate(accepted), lambda pair: pair[1] - pair[0])]
        listed = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs) or "none"
        return {"accepted": f"Trained on n = {self.n_min} to {self.n_max}; of n = 1 to {highest} it accepts {listed}."}
