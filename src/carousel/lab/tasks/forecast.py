"""Forecasts: the next values of a series, from a window of those before."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MeanAbsoluteError, Metric

from .task import Batch, Predictor, Recorded, Regression


class AbsoluteError(MeanAbsoluteError):
    """The mean absolute error, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def compute(self) -> Tensor:
        return super().compute() * self.factor


@dataclass(frozen=True)
class Forecast(Recorded, Regression):
    """The next `horizon` values of a series, from the `window` of those before, and again `every` so many steps on.

    The splits follow each other in time: no value is a target in two of them. A window may reach back over the border.
    What the model reads and predicts is the series less the mean of its training part, over the standard deviation
    of that; metrics are in the series' own unit, `mae`, and in those of the first baseline's mean absolute error in
    the training part, `mase` (Hyndman & Koehler 2006, eq. 3).

    Raises:
        ValueError: an option is no integer or under 1, `window` shorter than the season, or, when the data are read, a
            split without a forecast.
    """

    window: int
    horizon: int
    every: int = 1
    input_size = 1
    unit: ClassVar[str]
    """Of the series' values."""
    step: ClassVar[str]
    """What lies between two of them."""
    lags: ClassVar[dict[str, int]]
    """Baselines that repeat what was so many steps ago. The first is the season's; longer ones need longer windows."""
    borders: ClassVar[tuple[int, int]]
    """The first value of the validation targets, and of the test targets."""

    def __post_init__(self) -> None:
        season = next(iter(self.lags.values()))
        for name, least in (("window", season), ("horizon", 1), ("every", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")

    @property
    def output_size(self) -> int:
        return self.horizon

    def values(self) -> Tensor:
        """The series, (N,), in its unit and in double precision."""
        raise NotImplementedError

    def spans(self) -> dict[str, tuple[int, int]]:
        """Of each split, the first value that is a target and the one after the last that may be."""
        val, test = self.borders
        return {"train": (self.window, val), "val": (val, test), "test": (test, len(self.values()))}

    @functools.cached_property
    def moments(self) -> tuple[float, float, float]:
        """Of the training part the mean, the standard deviation, and the mean absolute error of the first baseline."""
        known, season = self.values()[: self.borders[0]], next(iter(self.lags.values()))
        seasonal = (known[season:] - known[:-season]).abs().mean()
        return known.mean().item(), known.std(correction=0).item(), seasonal.item()

    def fitted(self) -> list[float]:
        """The moments, which a saved model needs of the series."""
        return list(self.moments)

    def recall(self, fitted: list[float]) -> None:
        self.__dict__["moments"] = tuple(fitted)  # where cached_property looks

    def scale(self) -> tuple[float, float]:
        """The mean and the standard deviation of the training part."""
        return self.moments[:2]

    def split(self, name: str) -> Batch:
        """Windows (num, window, 1), which are views of the series, and targets (num, horizon)."""
        spans = {split: end - begin for split, (begin, end) in self.spans().items()}
        if self.horizon > min(spans.values()):
            raise ValueError(
                f"horizon must leave the splits a forecast: their targets span {spans}, got window {self.window} and "
                f"horizon {self.horizon}"
            )
        (mean, std), (begin, end) = self.scale(), self.spans()[name]
        series = ((self.values() - mean) / std).float()
        windows = series[begin - self.window : end - self.horizon].unfold(0, self.window, self.every)
        return Batch(windows.unsqueeze(-1), series[begin:end].unfold(0, self.horizon, self.every))

    def metrics(self) -> dict[str, Metric]:
        _, std, seasonal = self.moments
        return {"mae": AbsoluteError(std), "mase": AbsoluteError(std / seasonal)}

    def baselines(self) -> dict[str, Predictor]:
        repeats = {name: self._repeat(lag) for name, lag in self.lags.items() if lag <= self.window}
        return repeats | super().baselines()

    def _repeat(self, lag: int) -> Predictor:
        """The latest value that is a multiple of `lag` steps older than the one to be predicted."""
        k = torch.arange(self.horizon)
        where = k - lag * (k // lag + 1)  # counted from the end of the window
        return lambda batch: batch.input[:, where, 0]

    def read(self, data: Tensor) -> Tensor:
        """The last `window` steps, scaled.

        Raises:
            ValueError: there are fewer.
        """
        if data.size(1) < self.window:
            raise ValueError(f"a forecast needs the last {self.window} {self.step}s, got {data.size(1)}")
        mean, std = self.scale()
        return ((data[:, -self.window :].double() - mean) / std).float()

    def answer(self, prediction: Tensor) -> Tensor:
        mean, std = self.scale()
        return prediction * std + mean

    def examples(self, predict: Predictor) -> dict[str, Figure]:
        """Some of the test split's forecasts, with what the model had seen of the window, and the first baseline's."""
        test, num = self.split("test"), 6
        which = torch.linspace(0, len(test.input) - 1, min(num, len(test.input))).long().unique()
        batch = Batch(test.input[which], test.target[which])
        forecast = predict(batch)
        name, baseline = next(iter(self.baselines().items()))
        drawn = {"truth": batch.target, "forecast": forecast, name: baseline(batch)}
        std = self.scale()[1]
        before = min(self.window, max(2 * self.horizon, next(iter(self.lags.values()))))
        figure = Figure(figsize=(12, 6), layout="constrained")
        for k, ax in enumerate(figure.subplots(2, (len(which) + 1) // 2, squeeze=False, sharey=True).flat):
            if k >= len(which):
                ax.remove()
                continue
            ax.plot(range(-before, 0), self.answer(batch.input[k, -before:, 0]), color="0.6", label="seen before")
            for (label, values), style in zip(drawn.items(), ("k-", "C0-", "C1--"), strict=True):
                ax.plot(range(self.horizon), self.answer(values[k]), style, label=label, markersize=3,
                        marker="o" if self.horizon == 1 else None)  # fmt: skip
            errors = {label: (values[k] - batch.target[k]).abs().mean() * std for label, values in drawn.items()}
            place = self.when(self.spans()["test"][0] + int(which[k]) * self.every)
            told = ", ".join(f"{label} {error:,.4g}" for label, error in list(errors.items())[1:])
            ax.set_title(f"{place}\nmean absolute error: {told}", fontsize="small")
            ax.axvline(-0.5, color="0.8", linewidth=1)
            ax.set_xlabel(f"{self.step}s from the first that is predicted", fontsize="small")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
        figure.supylabel(self.unit)
        figure.suptitle(
            f"Forecasts of {self.horizon} {self.step}{'s' * (self.horizon > 1)}, in the test data, from the "
            f"{self.window} {self.step}s before (of which the last {before} are drawn)"
        )
        return {"forecast": figure}

    def when(self, index: int) -> str:
        """What a reader calls a value's place in the series."""
        return f"{self.step} {index}"
