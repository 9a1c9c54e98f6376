"""Sums and differences, digit by digit."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..task import IGNORE, Batch, Classification, Generated, Predictor, marked

SYMBOLS = "0123456789-.+=abcdefghijklmnopqrstuvwxyz"
DOT, PLUS, EQUALS, LETTER = map(SYMBOLS.index, ".+=a")


@dataclass(frozen=True)
class Arithmetic(Generated, Classification):
    """Add or subtract two numbers that are read among letters (Jozefowicz, Zaremba & Sutskever 2015).

    Before each symbol there may be letters, which mean nothing. From = on the target is the next symbol of the
    answer, which is read as well, and after the last a dot.

        input   3 e 3 - 3 4 = - 1
        target              - 1 .

    The numbers are under 10 to the power of 1 to `digits`, all powers equally likely, and so are 0 to `distractors`
    letters. Symbols are 0 to 9, then - . + = and a to z; classes the first twelve of them. The loss is the
    cross-entropy; the first baseline knows the place in the answer alone.

    Raises:
        ValueError: an option is no integer, `digits` not 1 to 17, or `distractors` negative.
    """

    digits: int = 8
    distractors: int = 3
    input_size = len(SYMBOLS)
    output_size = DOT + 1
    symbols = True
    every_step = True
    looks_ahead = True

    def __post_init__(self) -> None:
        for name, least, most in (("digits", 1, 17), ("distractors", 0, 1000)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name} must be an integer of {least} to {most}, got {value}")

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        def draw(high: int, *shape: int) -> Tensor:
            return torch.randint(high, (num, *shape), generator=generator)

        number = draw(10**self.digits, 2) % 10 ** (1 + draw(self.digits, 2))
        minus = draw(2).bool()
        symbols = 2 * self.digits + 2
        letters, many = LETTER + draw(26, symbols, self.distractors), draw(self.distractors + 1, symbols, 1)
        return self.written(number, minus, letters, many > torch.arange(self.distractors))

    def written(self, number: Tensor, minus: Tensor, letters: Tensor, there: Tensor) -> Batch:
        """The sequences of two numbers, (num, 2); whether the second is subtracted, (num,); letters, and which of them
        are there, (num, 2 * digits + 2, distractors), before each digit, with leading zeros, and each sign."""
        (a, a_shown), (b, b_shown) = (digits(number[:, k], self.digits) for k in (0, 1))
        answer = torch.where(minus, number[:, 0] - number[:, 1], number.sum(1))
        c, c_shown = digits(answer.abs(), self.digits + 1)
        always, fill = torch.ones_like(minus)[:, None], torch.full_like(answer, EQUALS)[:, None]
        sign = torch.where(minus, SYMBOLS.index("-"), PLUS)[:, None]
        asked = torch.cat([a, sign, b, fill], 1)[..., None]
        shown = torch.cat([a_shown, always, b_shown, always], 1)[..., None]
        symbols = torch.cat([torch.cat([letters, asked], 2).flatten(1), fill * 0 + SYMBOLS.index("-"), c], 1)
        shown = torch.cat([torch.cat([there & shown, shown], 2).flatten(1), (answer < 0)[:, None], c_shown], 1)
        lengths = shown.sum(1)
        order = shown.logical_not().int().argsort(dim=1, stable=True)[:, : int(lengths.max())]
        step = torch.arange(order.size(1))
        x = symbols.gather(1, order).masked_fill(step >= lengths[:, None], DOT)
        target = torch.cat([x[:, 1:], torch.full_like(fill, DOT)], 1)
        real = (place(x) > 0) & (step < lengths[:, None])
        return Batch(x, target.where(real, IGNORE), lengths)

    def baselines(self) -> dict[str, Predictor]:
        batch = self.sample(1000, torch.Generator().manual_seed(0))
        last = self.digits + 3  # =, a minus, and the digits
        at = place(batch.input).clamp(max=last)[marked(batch)], batch.target[marked(batch)]
        counts = torch.ones(last + 1, self.output_size).index_put(at, torch.tensor(1.0), accumulate=True)
        table = (counts / counts.sum(1, keepdim=True)).log()

        def known(batch: Batch) -> Tensor:
            return F.embedding(place(batch.input).clamp(max=last), table.to(batch.input.device))

        return {"the place in the answer": known} | super().baselines()

    def examples(self, predict: Predictor) -> dict[str, str]:
        """Some questions, their answers, and what was predicted, each symbol after the right ones before it."""
        batch = self.sample(4, torch.Generator().manual_seed(0))
        lines = []
        for x, said, target in zip(batch.input, predict(batch).cpu().argmax(-1), batch.target, strict=True):
            asked = target != IGNORE
            question = x[: int(asked.int().argmax()) + 1]
            lines.append("    " + " ".join(map(text, (question, target[asked], said[asked]))))
        return {"answers": "\n".join(("The question, the answer, and what was predicted:", "", *lines))}


def digits(number: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """(num, width): digits of numbers (num,), and whether each is no leading zero."""
    power = 10 ** torch.arange(width).flip(0)
    return number[:, None] // power % 10, (number[:, None] >= power) | (power == 1)


def place(x: Tensor) -> Tensor:
    """(num, T): how many symbols there are from = on, with this one."""
    return (x == EQUALS).cumsum(1).cumsum(1)


def text(symbols: Tensor) -> str:
    return "".join(SYMBOLS[k] for k in symbols.tolist())
