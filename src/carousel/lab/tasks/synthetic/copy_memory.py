"""The copy memory problem."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from ..task import IGNORE, Batch, Classification, Generated, Predictor


@dataclass(frozen=True)
class CopyMemory(Generated, Classification):
    """Say again, in order, what was shown long before (after Hochreiter & Schmidhuber 1997, section 5.2; in the form
    of Arjovsky et al. 2016, section 5.1).

    First `items` symbols, of `kinds` there are, then blanks, then a sign (>) from which on they are to be said, one
    with each of the last blanks. Until then the answer is blank. Here are 2 items of 8 kinds, in 8 steps:

        input   5 3 - - - > - -
        target  - - - - - - 5 3

    Arjovsky's T, how long they are to be kept, is `seq_len - 2 * items`. The loss is the cross-entropy at all steps;
    without memory it is at best that of guessing when it counts, items * log(kinds) / seq_len, the baseline loss. With
    `recall_only` the blanks of the target do not count, and it is log(kinds).

    Symbols are the kinds, then blank, then >; classes the kinds, then blank.

    Raises:
        ValueError: an option is no integer, or `items` under 1, `kinds` under 2, or `seq_len` under 2 * items + 1.
    """

    seq_len: int
    items: int = 10
    kinds: int = 8
    recall_only: bool = False
    symbols = True
    every_step = True

    def __post_init__(self) -> None:
        for name, least in (("items", 1), ("kinds", 2)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")
        super().__post_init__()

    @property
    def shortest(self) -> int:
        return 2 * self.items + 1

    @property
    def input_size(self) -> int:
        return self.kinds + 2

    @property
    def output_size(self) -> int:
        return self.kinds + 1

    @property
    def baseline_loss(self) -> float:
        return math.log(self.kinds) * (1 if self.recall_only else self.items / self.seq_len)

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        shown = torch.randint(self.kinds, (num, self.items), generator=generator)
        x = torch.full((num, self.seq_len), self.kinds)
        x[:, : self.items], x[:, -self.items - 1] = shown, self.kinds + 1
        target = torch.full_like(x, IGNORE if self.recall_only else self.kinds)
        target[:, -self.items :] = shown
        return Batch(x, target)  # (num, T), (num, T)

    def metrics(self) -> dict[str, Metric]:
        """The accuracy of the symbols that are said again, whatever else counts."""
        return {"recalled": MulticlassAccuracy(self.output_size, average="micro", ignore_index=self.kinds)}

    def baselines(self) -> dict[str, Predictor]:
        def memoryless(batch: Batch) -> Tensor:
            recall = torch.arange(self.seq_len) >= self.seq_len - self.items
            answers = recall[:, None] == (torch.arange(self.output_size) < self.kinds)  # all kinds, or blank
            return torch.where(answers, 0.0, -100.0).to(batch.input.device).expand(len(batch.input), -1, -1)

        return {"memoryless": memoryless}

    def examples(self, predict: Predictor) -> dict[str, str]:
        """Some of what was shown, and what was said again."""
        batch = self.sample(4, torch.Generator().manual_seed(0))
        said = predict(batch).cpu().argmax(-1)[:, -self.items :]
        lines = (f"    {' '.join(map(str, a))}   ->   {' '.join('-' if k == self.kinds else str(k) for k in b)}"
                 for a, b in zip(batch.input[:, : self.items].tolist(), said.tolist(), strict=True))  # fmt: skip
        return {"recalled": "\n".join(("Shown, and said again (- is a blank):", "", *lines))}
