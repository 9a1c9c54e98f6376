"""Tags that are opened and closed."""

import itertools
import string
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..real.text import Text, in_order

STEPS = 50
"""Of a document, after which no tag is opened any more."""


@dataclass(frozen=True)
class XML(Text):
    """Predict the next character of tags with random names, each of which has to be closed (Jozefowicz, Zaremba &
    Sutskever 2015).

        text    < a b > < c d e > < / c d e > < / a b >
        input   < a b > < c d e > < / c d e > < / a b
        target  a b > < c d e > < / c d e > < / a b >

    In each document a new tag is opened or, with probability 1/2 and always after 50 such steps, the last that is open
    is closed; where none is, the document ends. A name has 2 to `letters` letters, all lengths equally likely.
    Documents follow one another. What a closing tag says can be known, and how long an opening one is cannot: who keeps
    all that is open is right at 0.65 of the characters at best, with 10 letters.

    The text has `length` characters. The first 90 % of them are for training, the next 5 % for validation and the last
    5 % for test. The loss is the cross-entropy in nats. The state is carried over from one chunk to the next.

    Args:
        chunk: steps after which the gradient is cut off.
        length: characters in all.
        letters: of the longest name.
        seed: of the text.

    Raises:
        ValueError: an option is no integer, or out of its range.
    """

    chunk: int
    length: int = 1_000_000
    letters: int = 10
    seed: int = 0
    unknown = "\N{REPLACEMENT CHARACTER}"
    shown = 200
    between = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("length", 1000), ("letters", 2), ("seed", 0)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")

    def tokens(self) -> tuple[Sequence[str], ...]:
        return in_order(written(self.length, self.letters, self.seed), "the text")

    def known(self, training: Sequence[str]) -> list[str]:
        return sorted(set(training))

    def opening(self) -> str:
        """From where a tag begins."""
        return "<" + str(self._splits["test"]).partition("<")[2][:50]

    def tokenize(self, text: str) -> str:
        return text


def written(length: int, letters: int, seed: int) -> str:
    """So many characters of documents, of which the last is cut off."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, num: int = 1) -> list[int]:
        return torch.randint(high, (num,), generator=generator).tolist()

    tags: list[str] = []
    size = 0
    while size < length:
        still_open: list[str] = []
        for step in itertools.count():
            if step >= STEPS or draw(2) == [0]:
                if not still_open:
                    break
                tags.append(f"</{still_open.pop()}>")
            else:
                name = "".join(string.ascii_lowercase[k] for k in draw(26, 2 + draw(letters - 1)[0]))
                still_open.append(name)
                tags.append(f"<{name}>")
            size += len(tags[-1])
    return "".join(tags)[:length]
