"""Which length is solved at which initial gain or forget bias, with the lines that theory draws."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from ...gradients import theory
from .. import figures
from ..results import Tables, markdown_table

PANELS = {
    "rnn_orthogonal": ("config.model.init.gain", "gain of the recurrent matrix", "RNN, orthogonal matrix"),
    "lstm_forget1": ("config.model.init.value", "forget bias", "LSTM"),
}
"""The model, the column that was swept, how it is called on the axis and in the title."""
GREYS = LinearSegmentedColormap.from_list("", ["white", "0.62"])
LONGEST = 400
"""Lags up to which memory lengths are predicted."""


def drive(units: float) -> float:
    """The variance of W x + b at the adding problem under torch's initialisation: of the numbers and of two biases."""
    return (1 / 3 + 2) / (3 * units)


def predicted(model: str, value: float, units: float) -> float:
    """The lag at which 1% of the gradient is left at initialisation; inf if that is beyond `LONGEST`."""
    curve = theory.rnn(LONGEST, value, drive(units)) if model == "rnn_orthogonal" else theory.lstm(LONGEST, value)
    curve = curve.numpy()
    first = int((curve < -2).argmax())
    return float(np.interp(2, -curve[: first + 1], np.arange(first + 1))) if first else math.inf


def edge(model: str, units: float) -> float:
    """The gain at which an RNN's gradient begins to grow, the forget bias at which an LSTM's small states do."""
    if model == "lstm_forget1":
        return theory.lstm_edge()
    return next(gain for gain in np.linspace(1, 2, 1001) if theory.rnn_growth(gain, drive(units)) > 1)


def figure(tables: Tables) -> Figure:
    results = tables.results
    models = [model for model in PANELS if model in set(results["model"])]
    figure = Figure(figsize=(4.9 * len(models) + 0.6, 4.8), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for ax, model in zip(axes, models, strict=True):
        image = panel(ax, model, results[results["model"] == model])
    figure.colorbar(image, ax=axes, label="share of seeds that solve it", pad=0.01)
    figures.legend(figure, axes)
    seeds = results["seed"].nunique()
    figure.suptitle(
        f"Which settings solve the adding problem ({seeds} seeds each; number: mean test loss / baseline)", fontsize=11
    )
    return figure


def panel(ax: Axes, model: str, runs: pd.DataFrame) -> AxesImage:
    column, name, title = PANELS[model]
    units = runs["config.model.hidden_size"].iloc[0]
    runs = runs.assign(relative=runs["test/loss"] / runs["chance"])
    share = runs.pivot_table(index=column, columns="seq_len", values="solved", aggfunc="mean")
    loss = runs.pivot_table(index=column, columns="seq_len", values="relative", aggfunc="mean")
    image = ax.imshow(share.to_numpy(float), cmap=GREYS, vmin=0, vmax=1, aspect="auto", origin="lower")
    for i, j in np.ndindex(share.shape):
        halo = [withStroke(linewidth=3, foreground=GREYS(share.iat[i, j]))]
        text = f"{loss.iat[i, j]:.2f}"
        ax.text(j, i, text, ha="center", va="center", fontsize=9, path_effects=halo, zorder=5)
    rows, fields = np.arange(len(share.index)), np.arange(len(share.columns))
    ax.set_xticks(fields, share.columns)
    ax.set_yticks(rows, [f"{value:g}" for value in share.index])
    ax.set(title=title, xlabel="sequence length T", ylabel=name)

    values = np.linspace(share.index[0], share.index[-1], 200)
    memory = [predicted(model, value, units) for value in values]
    within = (np.array(memory) >= share.columns[0]) & (np.array(memory) <= share.columns[-1])
    at = np.interp(np.log(np.clip(memory, *share.columns[[0, -1]])), np.log(share.columns), fields)
    inside = np.where(within, at, np.nan), np.interp(values, share.index, rows)
    halo = [withStroke(linewidth=4, foreground="white")]
    ax.plot(*inside, color="#0072B2", linewidth=2, path_effects=halo, label="predicted: 1% of the gradient left")
    height = np.interp(edge(model, units), share.index, rows)
    ax.axhline(height, color="#D55E00", linestyle="--", path_effects=halo, label="predicted: edge of instability")
    return image


def findings(tables: Tables) -> list[str]:
    results, said = tables.results, []
    for model in [model for model in PANELS if model in set(results["model"])]:
        column, name, title = PANELS[model]
        runs = results[results["model"] == model]
        units = runs["config.model.hidden_size"].iloc[0]
        runs = runs.assign(memory=runs[column].map(lambda value, m=model, h=units: predicted(m, value, h)))
        rows = []
        for value, group in runs.groupby(column):
            share = group.groupby("seq_len")["solved"].mean()
            solved = share.index[share > 0.5]
            memory = group["memory"].iloc[0]
            reach = f"beyond {LONGEST - 1}" if math.isinf(memory) else f"{memory:.0f}"
            rows.append([f"{value:g}", reach, max(solved) if len(solved) else "none"])
        heads = [f"{title}: {name}", "predicted memory length", "longest T that most seeds solve"]
        border = edge(model, units)
        said += [markdown_table(heads, rows), f"{title}: {verdict(runs, runs[column] > border, border)}."]
    return said


def verdict(runs: pd.DataFrame, unstable: pd.Series, edge: float) -> str:
    """How far the predicted memory length tells success; the first of the two numbers stands in the first half."""
    enough = runs["memory"] >= runs["seq_len"] / 2
    parts = []
    for where, rows in (
        ("where the gradient is predicted to reach over half the sequence", runs[enough & ~unstable]),
        ("where it is not", runs[~enough & ~unstable]),
        (f"past the edge, which is at {edge:.2f},", runs[unstable]),
    ):
        if len(rows):
            parts.append(f"{where} {rows['solved'].sum()} of {len(rows)} runs solve it")
    return "; ".join(parts)
