"""Japanese vowels: who speaks?"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..task import Batch, Predictor
from .labelled import Labelled, answers, side_by_side
from .recordings import embedded


@dataclass(frozen=True)
class JapaneseVowels(Labelled):
    """Tell who of nine men says /ae/ (Kudo, Toyama & Shimbo 1999).

    640 utterances of 7 to 29 steps, each of 12 linear prediction (LPC) cepstrum coefficients. The first is speaker
    1's, and begins

        coefficient 1   1.8609  1.8917  1.9392  1.7175 ...
        coefficient 2  -0.2074 -0.1932 -0.2397 -0.2186 ...      target class 0 of 9

    Test: the published 370. Of the other 270, 30 a speaker, every fifth of each speaker is for validation (54), and
    216 for training, as the data came. Coefficients are scaled by the training split's mean and standard deviation.
    The loss is the cross-entropy.

    Published accuracy, trained on all 270: nearest neighbour by dynamic time warping .949 to .959; bidirectional LSTM
    of 100 units .954; the best above .98.
    """

    input_size = 12
    classes = tuple(str(k) for k in range(1, 10))
    what = "speaker"

    def recorded(self) -> dict[str, Batch]:
        data = embedded("japanese_vowels")
        whole = side_by_side(data["steps"] / 1e4, data["lengths"], data["speaker"])
        k = torch.arange(len(whole.target))
        known = k < 270
        which = {"train": known & (k % 5 != 4), "val": known & (k % 5 == 4), "test": ~known}
        return {name: whole.at(mask) for name, mask in which.items()}

    def baselines(self) -> dict[str, Predictor]:
        return super().baselines() | {"nearest by time warping": self._nearest}

    @functools.cached_property
    def _nearest(self) -> Predictor:
        """The class of the training sequence that is nearest by dynamic time warping."""
        train = self.split("train")

        def nearest(batch: Batch, but: Tensor | float = 0.0) -> Tensor:
            return train.target.to(batch.input.device)[(warped(batch, train) + but).argmin(1)]

        itself = torch.zeros(len(train.target)).fill_(torch.inf).diag()
        return answers(nearest, self.output_size, nearest(train, itself) == train.target)


def warped(a: Batch, b: Batch) -> Tensor:
    """Distances (A, B) by dynamic time warping: the least sum of squared differences over all ways to go through both
    sequences in step, in which either may stand still."""
    x, y = a.input, b.input.to(a.input.device)
    above = [torch.full((len(x), len(y)), torch.inf, device=x.device)] * y.size(1)
    found = above[0].clone()
    for i in range(x.size(1)):
        row: list[Tensor] = []
        for j in range(y.size(1)):
            least = torch.minimum(above[j], torch.minimum(row[-1], above[j - 1])) if j else above[0]
            if i == j == 0:
                least = torch.zeros_like(least)
            row.append(least + torch.cdist(x[:, i], y[:, j]).square())
            ends = (a.lengths == i + 1).nonzero(), (b.lengths == j + 1).nonzero()[:, 0]
            found[ends] = row[j][ends]
        above = row
    return found
