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
from ..records import Tables, markdown_table, names, steps_to_solve

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
    images = [panel(ax, model, results[results["model"] == model]) for ax, model in zip(axes, models, strict=True)]
    figure.colorbar(images[-1], ax=axes, label="share of seeds that solve it", pad=0.01)
    figures.legend(figure, axes)
    seeds = results["seed"].nunique()
    figure.suptitle(
        f"Which settings solve the adding problem (of {seeds} seeds; below: training steps until then, median)",
        fontsize=11,
    )
    return figure


def panel(ax: Axes, model: str, runs: pd.DataFrame) -> AxesImage:
    column, name, title = PANELS[model]
    units = runs["config.model.hidden_size"].iloc[0]
    share = runs.pivot_table(index=column, columns="seq_len", values="solved", aggfunc="mean")
    image = ax.imshow(share.to_numpy(float), cmap=GREYS, vmin=0, vmax=1, aspect="auto", origin="lower")
    for (value, length), group in runs.groupby([column, "seq_len"]):
        i, j = share.index.get_loc(value), share.columns.get_loc(length)
        halo = [withStroke(linewidth=3, foreground=GREYS(share.iat[i, j]))]
        text = f"{group['solved'].sum()}/{len(group)}\n{steps_to_solve(group)}"
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
    ax.axhline(height, color="#D55E00", linestyle="--", label="predicted: edge of instability")
    return image


def findings(tables: Tables) -> list[str]:
    results, said = tables.results, []
    for model in [model for model in PANELS if model in set(results["model"])]:
        column, name, title = PANELS[model]
        runs = results[results["model"] == model]
        units = runs["config.model.hidden_size"].iloc[0]
        runs = runs.assign(memory=runs[column].map(lambda value, m=model, h=units: predicted(m, value, h)))
        lengths = sorted(runs["seq_len"].unique())
        rows = []
        for value, group in runs.groupby(column):
            memory = group["memory"].iloc[0]
            cells = [group[group["seq_len"] == length] for length in lengths]
            rows.append(
                [
                    f"{value:g}",
                    f"beyond {LONGEST - 1}" if math.isinf(memory) else f"{memory:.0f}",
                    *(f"{c['solved'].sum()}/{len(c)}; {steps_to_solve(c)}" if len(c) else "" for c in cells),
                ]
            )
        heads = [f"{title}: {name}", "predicted gradient horizon", *(f"T = {length}" for length in lengths)]
        border = edge(model, units)
        said += [markdown_table(heads, rows), f"{title}: {verdict(runs, runs[column] > border, border)}."]
    return [*said, *told(results[results["model"] == "lstm_chrono"])]


def told(runs: pd.DataFrame) -> list[str]:
    """How much it matters which length chrono initialisation is told."""
    said = []
    for length, group in runs.groupby("seq_len"):
        steps = [
            f"{own['solved'].sum()} of {len(own)} seeds in {steps_to_solve(own)} steps (median) at t_max {value:g}"
            for value, own in group.groupby("config.model.init.t_max")
        ]
        said.append(f"Chrono initialisation, told several lengths, at T = {length}: {names(steps)}.")
    return said


def verdict(runs: pd.DataFrame, unstable: pd.Series, edge: float) -> str:
    """How far the predicted gradient horizon tells success; the first of the two numbers stands in the first half."""
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
