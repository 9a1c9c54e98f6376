"""The word problem of a symmetric group."""

import math
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from matplotlib.figure import Figure

from ..task import Batch, Classification, Generated, Predictor


@dataclass(frozen=True)
class WordProblem(Generated, Classification):
    """Keep track of how things were rearranged (Merrill, Petty & Sabharwal 2024; Grazzi et al. 2025).

    Each step shows one of the n! permutations of `things`, all equally likely; at every step the target is their
    product so far, as one of the same: where each thing has gone if the permutations are applied one after the other.
    Of three things, number 0 leaves all in place, and a permutation p moves what is in place i to place p[i]:

        input   102 (2)  120 (3)  021 (1)
        target  102 (2)  210 (5)  120 (3)

    (Number 5: thing 0 went to place 1, and from there to place 2.) Nothing but the whole history tells the answer: all
    classes are equally likely given the rest, so that chance is log n!. With 2 things this is parity at every step;
    3 is S3, the smallest group that does not commute, and 5 is S5, whose word problem
    is complete for NC1, circuits of logarithmic depth.

    With `test_seq_len` the test sequences have another length, to measure whether what was learnt holds beyond those
    of training.

    Raises:
        ValueError: an option is no integer, or `things` not 2 to 5, or a length under 1.
    """

    seq_len: int
    things: int = 3
    test_seq_len: int | None = None
    symbols = True
    every_step = True
    shortest = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.things) is not int or not 2 <= self.things <= 5:
            raise ValueError(f"things must be an integer of 2 to 5, got {self.things}")
        if self.test_seq_len is not None and (type(self.test_seq_len) is not int or self.test_seq_len < 1):
            raise ValueError(f"test_seq_len must be null or an integer of at least 1, got {self.test_seq_len}")

    @property
    def input_size(self) -> int:
        return math.factorial(self.things)

    @property
    def output_size(self) -> int:
        return self.input_size

    @property
    def baseline_loss(self) -> float:
        return math.log(self.output_size)

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        x = torch.randint(self.input_size, (num, self.seq_len), generator=generator)
        elements = list(permutations(range(self.things)))
        number = {p: k for k, p in enumerate(elements)}
        then = torch.tensor([[number[tuple(second[i] for i in first)] for second in elements] for first in elements])
        target = x.clone()
        for t in range(1, self.seq_len):
            target[:, t] = then[target[:, t - 1], x[:, t]]
        return Batch(x, target)  # (num, T), (num, T)

    def tested(self) -> "WordProblem":
        return self if self.test_seq_len is None else replace(self, seq_len=self.test_seq_len, test_seq_len=None)

    def examples(self, predict: Predictor) -> dict[str, Figure]:
        """How many answers are right, step by step."""
        batch = self.tested().sample(500, torch.Generator().manual_seed(0))
        right = (predict(batch).cpu().argmax(-1) == batch.target).float().mean(0)
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        ax = figure.subplots()
        ax.plot(range(1, len(right) + 1), right)
        ax.axhline(1 / self.output_size, color="gray", linestyle=":", label="a guess")
        if len(right) > self.seq_len:
            ax.axvline(self.seq_len, color="gray", linestyle="--", label="as long as in training")
        ax.set(xlabel="step", ylabel="share of right answers", ylim=(0, 1.03))
        ax.set_title(f"Product of all permutations so far, of {self.things} things")
        ax.legend()
        return {"accuracy_by_step": figure}
