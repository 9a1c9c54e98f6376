"""Test accuracy against the number of training sequences: how much data each cell needs."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures, scores
from ..records import Tables, labels, markdown_table, names
from ..style import named, styles
from .data import RATE, SIZE

SCORE = "test/accuracy"
MARK = 0.95
"""The share of the best median accuracy of all that counts as learnt."""


def points(tables: Tables) -> pd.DataFrame:
    """The results of tasks that have the score, with `setting`, all that varies but size and rate."""
    table = tables.results.assign(setting=labels(tables.results, without=[SIZE, RATE]))
    return table.reindex(columns=[*table.columns.difference([SCORE]), SCORE]).dropna(subset=SCORE)


def figure(tables: Tables) -> Figure:
    table = points(tables)
    style, tasks = styles(table["setting"]), sorted(table["task"].unique())
    drawn = Figure(figsize=(4.4 * len(tasks) + 0.8, 3.8), layout="constrained")
    axes = drawn.subplots(1, max(len(tasks), 1), squeeze=False)[0]
    for ax, task in zip(axes, tasks, strict=False):
        runs = table[table["task"] == task]
        for setting, own in runs.groupby("setting"):
            figures.band(ax, named(setting), own.pivot_table(index=SIZE, columns="seed", values=SCORE), style[setting])
        known = {name: own["accuracy"] for name, own in scores.baselines(runs[runs[SIZE] == runs[SIZE].max()]).items()}
        if known:
            best = max(known, key=lambda name: known[name])
            ax.axhline(known[best], color="0.5", linewidth=0.8)
            words = {"color": "0.4", "fontsize": 8, "ha": "left", "va": "bottom"}
            ax.annotate(f"{best}, of all", (runs[SIZE].min(), known[best]), **words)
        ax.set(xscale="log", title=task, xlabel="training sequences")
        ax.set_xticks(sorted(runs[SIZE].unique()), [f"{size:.0f}" for size in sorted(runs[SIZE].unique())], minor=False)
        ax.minorticks_off()
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("accuracy on test data")
    figures.legend(drawn, axes[:1])
    seeds = table["seed"].nunique()
    drawn.suptitle(f"Accuracy against the size of the training set (mean and range of {seeds} seeds)", fontsize=11)
    return drawn


def findings(tables: Tables) -> list[str]:
    table, said = points(tables), []
    for task, runs in table.groupby("task"):
        sizes = sorted(runs[SIZE].unique())
        medians = runs.pivot_table(index="setting", columns=SIZE, values=SCORE, aggfunc="median")
        mark = MARK * medians.max(axis=None)
        rows, needed = [], []
        for setting, own in runs.groupby("setting"):
            cells = [own.loc[own[SIZE] == size, SCORE] for size in sizes]
            rows.append([f"`{setting}`", *(scores.spread(cell) if len(cell) else "" for cell in cells)])
            enough = medians.columns[medians.loc[setting] >= mark]
            needed.append(f"`{setting}` from {enough[0]:.0f}" if len(enough) else f"`{setting}` from none of these")
        said.append(markdown_table([f"{task}, accuracy from so many sequences", *(f"{n:.0f}" for n in sizes)], rows))
        said.append(f"On {task} {mark:.3f}, {MARK:.0%} of the best median, is got by {names(needed)}.")
    return said
