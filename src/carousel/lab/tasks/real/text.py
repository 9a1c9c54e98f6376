"""Text, read symbol by symbol: predict the next one."""

import functools
import hashlib
import platform
import pydoc_data.topics
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from ..task import SPLITS, Batch, Classification, Predictor, Stream, always
from .ngrams import KneserNey

PINNED = "3.11.7", "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"
"""The Python, and the sha256 of its topics, that scores which are told of this task refer to."""


class CrossEntropy(MeanMetric):
    """The mean cross-entropy, in nats, over all steps."""

    higher_is_better = False

    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(torch.nn.functional.cross_entropy(prediction, target, reduction="none"))


class Text(Stream, Classification):
    """A subclass says the `tokens` of each split, and how text is made of tokens and tokens of text.

    Symbol 0 stands for all tokens that the vocabulary does not have; it is made of the training split alone.
    """

    symbols = True
    unknown: str
    """How symbol 0 is written."""
    shown: int
    """How many symbols an example of a text has."""
    between: str
    """What stands between two tokens."""

    def tokens(self) -> tuple[Sequence[str], ...]:
        """Of training, validation and test, in the order of the text.

        Raises:
            ValueError: in one line, what is wrong with the text, by name.
        """
        raise NotImplementedError

    def known(self, training: Sequence[str]) -> list[str]:
        """The tokens that have a symbol of their own."""
        raise NotImplementedError

    def opening(self) -> str:
        """Some text of the test split, for `examples` to continue."""
        raise NotImplementedError

    def tokenize(self, text: str) -> Sequence[str]:
        raise NotImplementedError

    def join(self, tokens: Sequence[str]) -> str:
        return self.between.join(tokens)

    @functools.cached_property
    def _splits(self) -> dict[str, Sequence[str]]:
        return dict(zip(SPLITS, self.tokens(), strict=True))

    @functools.cached_property
    def vocabulary(self) -> list[str]:
        """The token of each symbol."""
        return [self.unknown, *self.known(self._splits["train"])]

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {token: k for k, token in enumerate(self.vocabulary) if k}

    @functools.cached_property
    def _symbols(self) -> dict[str, Tensor]:
        return {split: self._encode(tokens) for split, tokens in self._splits.items()}

    def fitted(self) -> list[str]:
        return self.vocabulary

    def recall(self, fitted: list[str]) -> None:
        self.__dict__["vocabulary"] = fitted  # where cached_property looks

    @property
    def input_size(self) -> int:
        return len(self.vocabulary)

    @property
    def output_size(self) -> int:
        return len(self.vocabulary)

    def series(self, split: str) -> tuple[Tensor, Tensor]:
        symbols = self._symbols[split]
        return symbols[:-1], symbols[1:]

    def _encode(self, tokens: Sequence[str]) -> Tensor:
        return torch.tensor([self._index.get(token, 0) for token in tokens], dtype=torch.long)

    def encode(self, text: str) -> Tensor:
        """Symbols (N,)."""
        return self._encode(self.tokenize(text))

    def decode(self, symbols: Tensor) -> str:
        return self.join([self.vocabulary[k] for k in symbols.tolist()])

    def baselines(self) -> dict[str, Predictor]:
        """How often each symbol stands in the training split, plus one; and what follows on the two before it."""
        symbols = self._symbols["train"]
        counts = symbols.bincount(minlength=self.output_size) + 1.0
        return {
            "unigram": always(self, (counts / counts.sum()).log()),
            "trigram": KneserNey(symbols, self.output_size),
        }

    def continued(self, predict: Predictor, prompt: str, length: int, temperature: float = 0.8, seed: int = 0) -> str:
        """What a predictor makes follow on `prompt`, symbol by symbol, each drawn from what it predicts.

        Args:
            predict: carries its state over where a batch goes on, as `SequenceModule.predictor` and the baselines do.
            prompt: how the text begins.
            length: symbols to draw: characters, or words.
            temperature: log-probabilities are divided by it: 1 is what was learnt, less is less daring, and 0 takes
                the likeliest symbol. The unknown is never drawn.
            seed: of the draws.

        Returns:
            The text that follows, without the prompt.

        Raises:
            ValueError: there is no symbol in the prompt, or a number is out of range.
        """
        last = self.encode(prompt)[None]  # (1, T)
        if not last.numel():
            raise ValueError("the prompt must have a symbol at least")
        for name, value in (("length", length), ("temperature", temperature)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {value}")
        generator, drawn = torch.Generator().manual_seed(seed), []
        for k in range(length):
            scores = predict(Batch(last, last, goes_on=k > 0))[0, -1].double().log_softmax(-1)
            scores[0] = -torch.inf
            if temperature == 0:
                last = scores.argmax().view(1, 1)
            else:
                last = ((scores - scores.max()) / temperature).softmax(-1).multinomial(1, generator=generator)[None]
            drawn.append(last)
        return self.decode(torch.cat(drawn, 1)[0]) if drawn else ""

    def examples(self, predict: Predictor) -> dict[str, str]:
        """A beginning from the test split, continued at three temperatures; and what the trigram makes of it."""
        prompt = self.opening()
        shown = {f"temperature {t}": self.continued(predict, prompt, self.shown, t) for t in (0.5, 0.8, 1.0)}
        shown["trigram"] = self.continued(self.baselines()["trigram"], prompt, self.shown, 1.0)
        return {"continued text": "\n\n".join(
            f"--- {name}: after {prompt!r}\n{prompt}{self.between}{text}" for name, text in shown.items()
        )}  # fmt: skip


def read_text(path: str | Path | None) -> str:
    """A file of UTF-8; or, of None, the `topics`.

    Raises:
        ValueError: it is not there, or is none; the line names it.
    """
    if path is None:
        return topics()
    path = Path(path)
    if not path.exists():
        raise ValueError(f"task.path: {path} does not exist")
    if not path.is_file():
        raise ValueError(f"task.path: {path} is no file of text")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"task.path: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"task.path: {path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
                         ) from error  # fmt: skip
    if "\0" in text:
        raise ValueError(f"task.path: {path} is not text: it has null bytes")
    return text


def topics() -> str:
    """The documentation topics of the Python that runs; a warning says if they are others than those of the scores."""
    parts = pydoc_data.topics.topics
    text = "\n".join(parts[name] for name in sorted(parts))
    if hashlib.sha256(text.encode()).hexdigest() != PINNED[1]:
        warnings.warn(
            f"the documentation topics of Python {platform.python_version()} are others than those of {PINNED[0]}: "
            "scores on them are not comparable",
            stacklevel=1,
        )
    return text


def in_order(tokens: Sequence[str], what: str) -> tuple[Sequence[str], ...]:
    """The first 90 % for training, 5 % for validation and the last 5 % for test.

    Raises:
        ValueError: a split would have no step to predict; the line names the text, `what`.
    """
    n = len(tokens)
    if n < 40:
        raise ValueError(f"{what} is too short: 40 symbols are the least, it has {n}")
    ends = (n * 90 // 100, n * 95 // 100)
    return tokens[: ends[0]], tokens[ends[0] : ends[1]], tokens[ends[1] :]
