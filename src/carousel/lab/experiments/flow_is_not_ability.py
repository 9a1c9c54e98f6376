"""How far the gradient reaches, against what is learnt: over tasks and cells."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..records import Tables, markdown_table, memory_lengths, names
from ..style import named, styles

HEALTHY = 0.5
"""The share of the sequence that a healthy gradient's memory length reaches over."""


def points(tables: Tables) -> pd.DataFrame:
    """A row a run: label, task (with its length), seed, solved; `init` and `end`, the memory length as a share of the
    sequence; and `score`, the share of the baseline's loss that is gone."""
    results = tables.results
    table = results[["label", "seed", "solved"]].copy()
    table["task"] = results["task"] + ", T = " + results["seq_len"].astype(str)
    for when in ("init", "end"):
        table[when] = memory_lengths(tables, when) / (results["seq_len"] - 1)
    table["score"] = (1 - results["test/loss"] / results["baseline_loss"]).clip(-0.1, 1)
    return table


def figure(tables: Tables) -> Figure:
    table = points(tables)
    labels, tasks = sorted(table["label"].unique(), reverse=True), sorted(table["task"].unique())
    style = styles(labels)
    figure = Figure(figsize=(2.6 * len(tasks) + 1.8, 0.42 * len(labels) + 1.8), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True, sharex=True, squeeze=False)[0]
    for ax, task in zip(axes, tasks, strict=True):
        for y, label in enumerate(labels):
            runs = table[(table["task"] == task) & (table["label"] == label)]
            if runs.empty:
                continue
            color, marker = style[label]["color"], style[label]["marker"]
            for height, when, fill in ((y - 0.14, "init", "none"), (y + 0.14, "end", "full")):
                ax.plot([runs[when].min(), runs[when].max()], [height] * 2, color=color, linewidth=1)
                ax.plot(runs[when].median(), height, color=color, marker=marker, fillstyle=fill, markersize=6)
            solved = runs["solved"].sum()
            text = f"{solved}/{len(runs)}  {max(runs['score'].median(), 0):.2f}"
            weight = "bold" if 2 * solved > len(runs) else "normal"
            ax.text(1.08, y, text, va="center", fontsize=9, fontweight=weight)
        ax.axvline(HEALTHY, color="0.5", linewidth=0.8, linestyle=":")
        ax.set(xlabel="memory length / T", xlim=(-0.05, 1.6))
        ax.set_title(f"{task}\n$\\it{{solved; learnt}}$", fontsize=10, loc="right")
        ax.set_xticks([0, 0.5, 1])
        ax.grid(alpha=0.25)
    axes[0].set_yticks(range(len(labels)), [named(label) for label in labels])
    for fill, when in (("none", "at initialisation"), ("full", "after training")):
        axes[0].plot([], [], "o", color="0.3", fillstyle=fill, label=f"memory length {when} (median, range)")
    figures.legend(figure, axes[:1])
    seeds = table["seed"].nunique()
    figure.suptitle(
        f"How far the gradient reaches, and what is learnt: of {seeds} seeds, how many solve the task, "
        "and the share of the baseline's loss that is gone (median)",
        fontsize=11,
        wrap=True,
    )
    return figure


def findings(tables: Tables) -> list[str]:
    table = points(tables)
    tasks = sorted(table["task"].unique())
    rows = []
    for label, runs in table.groupby("label"):
        row = [f"`{label}`"]
        for task in tasks:
            group = runs[runs["task"] == task]
            reach = " → ".join(f"{group[when].median():.0%}" for when in ("init", "end"))
            row.append(f"{group['solved'].sum()}/{len(group)}; {reach}" if len(group) else "")
        rows.append(row)
    said = [markdown_table(["solved; memory length at initialisation → after training", *tasks], rows)]
    healthy = table["init"] >= HEALTHY
    for condition, rows in (("reaches over half the sequence", table[healthy]), ("does not", table[~healthy])):
        said.append(
            f"Of the runs whose gradient at initialisation {condition}, {rows['solved'].sum()} of {len(rows)} solve "
            "their task."
        )
    short = table["end"] < HEALTHY
    for condition, rows in (
        (
            "Solved, although in the trained model the gradient reaches over less than half the sequence",
            table[short & table["solved"]],
        ),
        ("A healthy gradient before and after training, and not solved", table[healthy & ~short & ~table["solved"]]),
    ):
        if len(rows):
            counts = rows.groupby(["task", "label"]).size().items()
            said.append(f"{condition}: {names(f'`{label}` on {task} ({n})' for (task, label), n in counts)}.")
    return said
