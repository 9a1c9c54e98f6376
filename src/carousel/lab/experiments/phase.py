"""Who solves which length at which initial gain or forget bias, with the lines that theory draws."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...gradients import memory_length, theory

PANELS = {
    "rnn_orthogonal": ("config.model.init.gain", "gain of the recurrent matrix", "RNN, orthogonal matrix"),
    "lstm_forget1": ("config.model.init.value", "forget bias", "LSTM"),
}
"""The model, the column that was swept, how it is called on the axis and in the title."""
LONGEST = 400
"""Lags up to which memory lengths are predicted."""


def predicted(model: str, value: float) -> float:
    """The memory length at initialisation, to 1%, in steps; inf if it is beyond `LONGEST`."""
    curve = theory.rnn(LONGEST, value) if model == "rnn_orthogonal" else theory.lstm(LONGEST, value)
    lag = memory_length(curve)
    return math.inf if lag == LONGEST - 1 else lag


def edge(model: str) -> float:
    """The gain or the forget bias at which small states begin to grow."""
    return 1.0 if model == "rnn_orthogonal" else theory.lstm_edge()


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    models = [model for model in PANELS if model in set(results["model"])]
    figure = Figure(figsize=(4.9 * len(models) + 0.6, 4.6), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for ax, model in zip(axes, models, strict=True):
        image = panel(ax, model, results[results["model"] == model])
    figure.colorbar(image, ax=axes, label="share of seeds that solve it", pad=0.01)
    figure.suptitle(
        f"Who learns the adding problem ({results['seed'].nunique()} seeds a field; in it the test loss / chance)",
        fontsize=11,
    )
    return figure


def panel(ax: Axes, model: str, runs: pd.DataFrame):
    column, name, title = PANELS[model]
    runs = runs.assign(relative=runs["test/loss"] / runs["chance"])
    share = runs.pivot_table(index=column, columns="seq_len", values="solved", aggfunc="mean")
    loss = runs.pivot_table(index=column, columns="seq_len", values="relative", aggfunc="mean")
    values, lengths = share.index.to_numpy(float), share.columns.to_numpy(float)
    image = ax.imshow(share.to_numpy(float), cmap="Greys", vmin=0, vmax=1.4, aspect="auto", origin="lower")
    image.set_clim(0, 1)
    for i, j in np.ndindex(share.shape):
        color = "white" if share.iat[i, j] > 0.6 else "black"
        ax.text(j, i, f"{loss.iat[i, j]:.2f}", ha="center", va="center", fontsize=8, color=color)
    ax.set_xticks(range(len(lengths)), [f"{length:.0f}" for length in lengths])
    ax.set_yticks(range(len(values)), [f"{value:g}" for value in values])
    fine = np.linspace(values[0], values[-1], 200)
    rows = np.interp(fine, values, np.arange(len(values)))
    memory = np.array([min(predicted(model, value), 10 * lengths[-1]) for value in fine])
    columns = np.interp(
        np.log(np.maximum(memory, 1)), np.log(lengths), np.arange(len(lengths)), left=-1, right=len(lengths)
    )
    ax.plot(columns, rows, color="#0072B2", linewidth=2, label="predicted memory length (1%) at initialisation")
    ax.axhline(
        np.interp(edge(model), values, np.arange(len(values))),
        color="#D55E00",
        linestyle="--",
        linewidth=1.5,
        label="edge of instability",
    )
    ax.set(
        xlim=(-0.5, len(lengths) - 0.5),
        ylim=(-0.5, len(values) - 0.5),
        title=title,
        xlabel="seq_len (time steps)",
        ylabel=name,
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=8)
    return image


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    said = []
    for model in [model for model in PANELS if model in set(results["model"])]:
        column, name, title = PANELS[model]
        runs = results[results["model"] == model]
        heads = [f"{title}: {name}", "predicted memory length", "longest seq_len that most seeds solve"]
        heads.append("median steps to solve the shortest")
        lines = ["| " + " | ".join(heads) + " |", "| ---: | ---: | ---: | ---: |"]
        for value, group in runs.groupby(column):
            share = group.groupby("seq_len")["solved"].mean()
            solved = share.index[share > 0.5]
            memory = predicted(model, value)
            shortest = group[group["seq_len"] == group["seq_len"].min()]["steps_to_solve"].median()
            cells = [f"{value:g}", f"over {LONGEST - 1}" if math.isinf(memory) else f"{memory:.0f}"]
            cells += [
                str(max(solved)) if len(solved) else "none",
                f"{shortest:.0f}" if shortest == shortest else "never",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        said.append("\n".join(lines))
        said.append(verdict(model, runs))
    return said


def verdict(model: str, runs: pd.DataFrame) -> str:
    """How far the predicted memory length tells success."""
    column, _, title = PANELS[model]
    memory = runs[column].map(lambda value: predicted(model, value))
    enough = memory >= runs["seq_len"] / 2  # the first of the two numbers stands in the first half
    stable = runs[column] <= edge(model)
    parts = []
    for said, rows in (
        ("where the gradient is predicted to reach over half the sequence, below the edge", runs[enough & stable]),
        ("where it is not", runs[~enough & stable]),
        ("past the edge", runs[~stable]),
    ):
        if len(rows):
            parts.append(f"{said}, {rows['solved'].sum()} of {len(rows)} runs solve it")
    return f"{title}: " + "; ".join(parts) + "."
