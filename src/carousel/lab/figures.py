"""Tables to figures. The same model has the same colour, line and marker in every figure."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, ScalarFormatter
from torch import Tensor

# Okabe & Ito's colours, told apart in black and white by the line and the marker.
STYLES = {
    "rnn": {"color": "#D55E00", "linestyle": "-", "marker": "o"},
    "lstm": {"color": "#0072B2", "linestyle": "-", "marker": "s"},
    "nn_lstm": {"color": "#000000", "linestyle": ":", "marker": "x"},
    "lstm_forget1": {"color": "#56B4E9", "linestyle": "--", "marker": "^"},
    "lstm_chrono": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
    "gru": {"color": "#CC79A7", "linestyle": "-", "marker": "v"},
    "nn_gru": {"color": "#7F3F6A", "linestyle": ":", "marker": "+"},
    "nn_rnn": {"color": "#7A3600", "linestyle": ":", "marker": "*"},
    "rnn_orthogonal": {"color": "#E69F00", "linestyle": "--", "marker": "P"},
    "mgu": {"color": "#117733", "linestyle": "-.", "marker": "<"},
    "janet": {"color": "#332288", "linestyle": "--", "marker": ">"},
    "indrnn": {"color": "#999933", "linestyle": ":", "marker": "h"},
}
_OTHERS = [
    {"color": color, "linestyle": line, "marker": marker}
    for (line, marker), color in zip(
        [("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"), ("-", "v"), ("--", "P"), ("-.", "X"), (":", "*")],
        ["#332288", "#88CCEE", "#117733", "#999933", "#CC6677", "#882255", "#AA4499", "#DDCC77"],
        strict=True,
    )
]
FLOOR = -20.0
"""Decimal logarithm under which gradient curves are cut: far below anything that training could notice."""


Style = dict[str, dict]


def styles(labels: list[str]) -> Style:
    """How each model looks: made once for a report, so that it looks the same in all figures."""
    others = cycle(_OTHERS)
    return {label: STYLES.get(label) or next(others) for label in sorted(labels)}


def legend(figure: Figure, axes: Axes) -> None:
    """One legend for the whole figure, under the panels, where it covers no line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)


def band(ax: Axes, label: str, curves: pd.DataFrame, style: dict, markevery) -> None:
    """The mean of several seeds, one a column, in a band from the least to the largest."""
    ax.plot(curves.index, curves.mean(axis=1), label=label, linewidth=1.4, markersize=4, markevery=markevery, **style)
    if curves.shape[1] > 1:
        ax.fill_between(curves.index, curves.min(axis=1), curves.max(axis=1), color=style["color"], alpha=0.15, lw=0)


def mark(ax: Axes, y: float, name: str) -> None:
    """A level, named beside the panel, where it covers no line."""
    ax.axhline(y, color="0.5", linewidth=0.8)
    ax.annotate(name, (1.01, y), xycoords=("axes fraction", "data"), color="0.4", va="center", fontsize=8)


def power_of_ten(y: float, _) -> str:
    return f"$10^{{{y:.0f}}}$"


def gradient_flow(flow: pd.DataFrame, style: Style) -> Figure:
    """The gradient's norm relative to lag 0 against the lag, at the largest seq_len: before and after training."""
    seq_len = flow["seq_len"].max()
    flow = flow[flow["seq_len"] == seq_len]
    states = list(flow["state"].unique())
    figure = Figure(figsize=(9, 3.4 * len(states) + 0.6), layout="constrained")
    grid = figure.subplots(len(states), 2, sharex=True, sharey=True, squeeze=False)
    top = 3.0
    for row, state in zip(grid, states, strict=True):
        for ax, when in zip(row, ("at initialisation", "after training"), strict=True):
            for label, runs in flow[flow["state"] == state].groupby("label"):
                step = runs.groupby("run")["step"].transform("max" if when == "after training" else "min")
                curves = runs[runs["step"] == step].pivot_table(index="lag", columns="run", values="log10_norm")
                curves = curves - curves.loc[0]
                top = max(top, min(curves.max().max() + 1, -FLOOR))
                band(ax, label, curves, style[label], (0.05, 0.13))
            mark(ax, -2, "1%")
            ax.set_title(rf"$\partial L/\partial {state}_{{T-k}}$, {when}")
            ax.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
            ax.grid(alpha=0.25)
        row[0].set_ylabel("norm relative to lag 0")
    grid[0, 0].set_ylim(FLOOR, top)
    for ax in grid[-1]:
        ax.set_xlabel("lag k (time steps back from the loss)")
    over = ", mean and range over seeds" if flow["seed"].nunique() > 1 else ""
    figure.suptitle(f"How much of the error reaches earlier states: sequences of {seq_len} steps{over}")
    legend(figure, max(grid.flat, key=lambda ax: len(ax.lines)))
    return figure


def solved(results: pd.DataFrame, style: Style) -> Figure:
    """Which runs were solved, and after how many training steps, against seq_len."""
    finished = results[results["status"] == "finished"]
    labels, lengths = sorted(finished["label"].unique()), sorted(finished["seq_len"].unique())
    figure = Figure(figsize=(10, 0.35 * len(labels) + 2.6), layout="constrained")
    table, steps = figure.subplots(1, 2, width_ratios=(1, 1.1))

    share = finished.pivot_table(index="label", columns="seq_len", values="solved", aggfunc="mean")
    loss = finished.pivot_table(index="label", columns="seq_len", values="test/loss", aggfunc="mean")
    table.imshow(share.to_numpy(float), cmap="Greens", vmin=0, vmax=1.6, aspect="auto")
    for i, label in enumerate(share.index):
        for j, length in enumerate(share.columns):
            if not np.isnan(value := share.loc[label, length]):
                word = "solved" if value == 1 else "no" if value == 0 else f"{value:.0%}"
                table.text(j, i, f"{word}\n{loss.loc[label, length]:.4f}", ha="center", va="center", fontsize=8)
    table.set_xticks(range(len(lengths)), lengths)
    table.set_yticks(range(len(labels)), labels)
    table.set(title="solved? (below: test loss)", xlabel="seq_len (time steps)")

    for label, runs in finished.groupby("label"):
        counts = runs.pivot_table(index="seq_len", columns="run", values="steps_to_solve", dropna=False)
        counts = counts[share.loc[label].reindex(counts.index) == 1]
        if not counts.empty:
            band(steps, label, counts, style[label], None)
    steps.set(
        title="training steps until solved (where every seed is)",
        xlabel="seq_len (time steps)",
        ylabel="training steps",
    )
    steps.set(xscale="log", yscale="log")
    steps.set_xlim(min(lengths) * 0.85, max(lengths) * 1.2)
    steps.set_xticks(lengths, lengths)
    steps.xaxis.set_minor_formatter(NullFormatter())
    steps.yaxis.set_major_formatter(ScalarFormatter())
    steps.yaxis.set_minor_formatter(ScalarFormatter())
    steps.grid(alpha=0.25, which="both")
    if steps.lines:
        steps.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        steps.text(0.5, 0.5, "no length was solved", transform=steps.transAxes, ha="center")
    return figure


def loss_curves(curves: pd.DataFrame, results: pd.DataFrame, style: Style) -> Figure:
    """Validation loss against the training step, one panel for each seq_len, with the chance level.

    A run that stopped early, being solved, counts with its last loss from then on.
    """
    curves = curves.dropna(subset="val/loss")
    lengths = sorted(curves["seq_len"].unique())
    columns = min(len(lengths), 3)
    rows = -(-len(lengths) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.6, 2.7 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, length in zip(grid.flat, lengths, strict=False):
        for label, runs in curves[curves["seq_len"] == length].groupby("label"):
            band(ax, label, runs.pivot_table(index="step", columns="run", values="val/loss").ffill(), style[label], 0.2)
        for chance in results.loc[results["seq_len"] == length, "chance"].dropna().unique():
            mark(ax, chance, "chance")
        ax.set(title=f"seq_len {length}", yscale="log")
        ax.grid(alpha=0.25)
    for ax in grid.flat[len(lengths) :]:
        ax.set_visible(False)
    for ax in [grid[(len(lengths) - 1 - j) // columns, j] for j in range(columns)]:
        ax.set_xlabel("training step")
        ax.tick_params(labelbottom=True)
    for ax in grid[:, 0]:
        ax.set_ylabel("validation loss")
    legend(figure, max(grid.flat, key=lambda ax: len(ax.lines)))
    return figure


def heatmap(state: str, steps: list[int], log10_norm: Tensor) -> Figure:
    """Training step x lag, for one state: `log10_norm` is (len(steps), T)."""
    relative = (log10_norm - log10_norm[:, :1]).clamp(-10, 10)
    figure = Figure(figsize=(7, 0.25 * len(steps) + 2), layout="constrained")
    ax = figure.subplots()
    top = max(0.0, float(relative.nan_to_num().max()))
    image = ax.imshow(relative.numpy(), aspect="auto", cmap="cividis", vmin=-10, vmax=top, interpolation="nearest")
    ax.set_yticks(range(len(steps)), steps)
    ax.set(xlabel="lag k (time steps back from the loss)", ylabel="training step")
    ax.set_title(rf"$\|\partial L/\partial {state}_{{T-k}}\|$ relative to lag 0 (cut at $10^{{\pm 10}}$)")
    figure.colorbar(image, label="decimal logarithm")
    return figure
