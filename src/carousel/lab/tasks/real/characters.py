"""The next character of a text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torchmetrics import Metric

from .text import CrossEntropy, Text, in_order, read_text


class BitsPerCharacter(CrossEntropy):
    """The mean cross-entropy, in bits."""

    def compute(self) -> Tensor:
        return super().compute() / math.log(2)


@dataclass(frozen=True)
class Characters(Text):
    """Predict the next character of Python's own documentation, or of any file.

    The text is the topics of `help()` in the Python that runs, 465 thousand characters in the alphabetical order of
    their names; or, with `path`, a file of UTF-8.

        text    I f   t h e
        input   I f _ t h       target  f _ t h e

    The first 90 % of it are for training, the next 5 % for validation and the last 5 % for test. The alphabet is that
    of the training split, and one symbol more, for every other character. The loss is the cross-entropy in nats; bits
    per character are it over log 2. The state is carried over from one chunk to the next.
    """

    chunk: int
    path: str | None = None
    unknown = "\N{REPLACEMENT CHARACTER}"
    shown = 400
    between = ""

    def tokens(self) -> tuple[Sequence[str], ...]:
        return in_order(read_text(self.path), f"task.path: {self.path}")

    def known(self, training: Sequence[str]) -> list[str]:
        return sorted(set(training))

    def opening(self) -> str:
        """From where a paragraph begins."""
        test = str(self._splits["test"])
        return (test.partition("\n\n")[2] or test)[:50]

    def tokenize(self, text: str) -> str:
        return text

    def metrics(self) -> dict[str, Metric]:
        return {"bits_per_character": BitsPerCharacter()} | super().metrics()
