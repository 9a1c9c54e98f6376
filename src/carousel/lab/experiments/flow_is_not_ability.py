"""How far the gradient reaches, against what is learnt: over tasks and cells."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import markdown_table, memory_lengths, names

HEALTHY = 0.5
"""The share of the sequence that a healthy gradient's memory length reaches over."""


def points(results: pd.DataFrame) -> pd.DataFrame:
    """A row a run: model, task, seed, `init` and `end`, the memory length as a share of the sequence, of c where there
    is a c, and `score`, the share of the chance level's loss that is gone."""
    table = results[["model", "task", "seed", "solved"]].copy()
    for when in ("init", "end"):
        table[when] = memory_lengths(results, when) / (results["seq_len"] - 1)
    table["score"] = (1 - results["test/loss"] / results["chance"]).clip(-0.1, 1)
    return table


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    table = points(results)
    models, tasks = sorted(table["model"].unique(), reverse=True), sorted(table["task"].unique())
    style = figures.styles(models)
    figure = Figure(figsize=(2.6 * len(tasks) + 1.2, 0.42 * len(models) + 2.0), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True, sharex=True, squeeze=False)[0]
    for ax, task in zip(axes, tasks, strict=True):
        for y, model in enumerate(models):
            runs = table[(table["task"] == task) & (table["model"] == model)]
            if runs.empty:
                continue
            color, marker = style[model]["color"], style[model]["marker"]
            for height, when, fill in ((y - 0.14, "init", "none"), (y + 0.14, "end", "full")):
                ax.plot([runs[when].min(), runs[when].max()], [height] * 2, color=color, linewidth=1)
                ax.plot(runs[when].median(), height, color=color, marker=marker, fillstyle=fill, markersize=6)
            solved = runs["solved"].sum()
            text = f"{solved}/{len(runs)}  {max(runs['score'].median(), 0):.2f}"
            weight = "bold" if 2 * solved > len(runs) else "normal"
            ax.text(1.08, y, text, va="center", fontsize=9, fontweight=weight)
        ax.axvline(HEALTHY, color="0.5", linewidth=0.8, linestyle=":")
        length = results.loc[results["task"] == task, "seq_len"].iloc[0]
        ax.set(title=f"{task}, {length} steps", xlabel="memory length / seq_len", xlim=(-0.05, 1.55))
        ax.set_xticks([0, 0.5, 1])
        ax.grid(alpha=0.25)
    axes[0].set_yticks(range(len(models)), models)
    seeds = results["seed"].nunique()
    figure.suptitle(
        f"The gradient's reach (median and range of {seeds} seeds; below, open: at initialisation; above, filled: "
        "after training)\nand beside it what is learnt: seeds that solve the task, and the share of the chance "
        "level's loss that is gone (median)",
        fontsize=11,
    )
    return figure


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    table = points(results)
    tasks = sorted(table["task"].unique())
    rows = []
    for model, runs in table.groupby("model"):
        row = [f"`{model}`"]
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
            counts = rows.groupby(["task", "model"]).size().items()
            said.append(f"{condition}: {names(f'`{model}` on {task} ({n})' for (task, model), n in counts)}.")
    return said
