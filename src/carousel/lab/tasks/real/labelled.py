"""What tasks have in common whose recordings belong to one class each."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..task import Batch, Classification, Predictor, Recorded, present

BLUES = LinearSegmentedColormap.from_list("", ["white", "#0072B2"])


class Labelled(Recorded, Classification):
    """Recordings of one class each, every feature scaled to mean 0 and standard deviation 1 of the training split."""

    classes: ClassVar[tuple[str, ...]]
    what: ClassVar[str]
    """What the classes are, such as "speaker"."""
    alike: ClassVar[bool] = False
    """Whether all features are of one kind, such as pixels, and scaled together."""

    @property
    def output_size(self) -> int:
        return len(self.classes)

    def recorded(self) -> dict[str, Batch]:
        """The splits, by name, as they were recorded.

        Raises:
            FileNotFoundError, ValueError: the data are not there, or not what they should be.
        """
        raise NotImplementedError

    @functools.cached_property
    def _recorded(self) -> dict[str, Batch]:
        return self.recorded()

    @functools.cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (F,), or (1,) of features that are alike, of the training split's real steps."""
        train = self._recorded["train"]
        steps = train.input[present(train)].double()  # (N, F)
        if self.alike:
            steps = steps.reshape(-1, 1)
        std = steps.std(0, correction=0)
        return steps.mean(0), std.where(std > 0, 1)

    def fitted(self) -> list[list[float]]:
        """The moments, which a saved model needs of the training data."""
        return [part.tolist() for part in self.moments]

    def recall(self, fitted: list[list[float]]) -> None:
        self.__dict__["moments"] = tuple(torch.tensor(part, dtype=torch.float64) for part in fitted)

    def read(self, data: Tensor) -> Tensor:
        """Recordings (B, T, F) as the model reads them."""
        mean, std = self.moments
        return ((data - mean) / std).float()

    def answer(self, prediction: Tensor) -> list[str]:
        """The likeliest classes, by name."""
        return [self.classes[k] for k in prediction.argmax(-1).tolist()]

    @functools.cached_property
    def splits(self) -> dict[str, Batch]:
        return {name: batch._replace(input=Labelled.read(self, batch.input)) for name, batch in self._recorded.items()}

    def split(self, name: str) -> Batch:
        return self.splits[name]

    def baselines(self) -> dict[str, Predictor]:
        return super().baselines() | {"nearest mean": self.nearest_mean()}

    def nearest_mean(self) -> Predictor:
        """The class whose training sequences are nearest on average: their mean over time, or, where all are of one
        length, step by step."""
        train = self.split("train")
        seen = summary(train)
        means = torch.stack([seen[train.target == k].mean(0) for k in range(self.output_size)])

        def nearest(batch: Batch) -> Tensor:
            return torch.cdist(summary(batch), means.to(batch.input.device)).nan_to_num(torch.inf).argmin(1)

        return answers(nearest, self.output_size, nearest(train) == train.target)

    def examples(self, predict: Predictor) -> dict[str, Figure]:
        """The confusion matrix of the test split."""
        test = self.split("test")
        some = (slice(k, k + 500) for k in range(0, len(test.target), 500))
        named = torch.cat([predict(test.at(rows)).argmax(-1).cpu() for rows in some])
        counts = torch.zeros(self.output_size, self.output_size, dtype=torch.long)
        counts.index_put_((test.target, named), torch.tensor(1), accumulate=True)
        return {"confusion": confusion(counts, self.classes, self.what, "test data")}


def side_by_side(steps: np.ndarray, lengths: np.ndarray, classes: np.ndarray) -> Batch:
    """Sequences that follow one another, (N, F), padded with zeros."""
    parts = torch.from_numpy(steps).split(lengths.tolist())
    return Batch(pad_sequence(list(parts), True), torch.from_numpy(classes).long(), torch.from_numpy(lengths).long())


def summary(batch: Batch) -> Tensor:
    """One vector a sequence, (B, D): its mean over time, or all its steps where all are of one length."""
    if batch.lengths is None:
        return batch.input.flatten(1)
    real = present(batch)[..., None]
    return batch.input.where(real, 0).sum(1) / batch.lengths[:, None]


def answers(classes: Callable[[Batch], Tensor], num_classes: int, right: Tensor) -> Predictor:
    """A baseline that names classes (B,), as the log-probabilities (B, num_classes) that the loss asks for: as sure of
    them as it was right on training data, which `right` (N,) says."""
    share = (int(right.sum()) + 1) / (len(right) + 2)

    def predict(batch: Batch) -> Tensor:
        named = F.one_hot(classes(batch), num_classes).bool()
        return torch.where(named, share, (1 - share) / (num_classes - 1)).log()

    return predict


def confusion(counts: Tensor, classes: tuple[str, ...], what: str, where: str) -> Figure:
    """How often each class (rows) is taken for each (columns): counts (C, C)."""
    total, right = int(counts.sum()), int(counts.trace())
    figure = Figure(figsize=(5.6, 5.4), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap=BLUES, vmin=0, vmax=1)
    for true, predicted in counts.nonzero().tolist():
        color = "white" if share[true, predicted] > 0.5 else "black"
        number = str(int(counts[true, predicted]))
        axes.text(predicted, true, number, ha="center", va="center", color=color, fontsize=10 if total < 5000 else 8)
    ticks = range(len(classes))
    turned: dict[str, Any] = {"rotation": 45, "ha": "right"} if max(map(len, classes)) > 3 else {}
    axes.set_xticks(ticks, classes, **turned)
    axes.set_yticks(ticks, classes)
    axes.set(xlabel=f"predicted {what}", ylabel=f"true {what}")
    axes.set_title(f"{where}: {right} of {total} right ({right / total:.1%})\ncounts; colour: share of the true {what}",
                   fontsize=11)  # fmt: skip
    return figure
