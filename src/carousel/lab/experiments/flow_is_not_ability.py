"""How far the gradient reaches, against what is learnt: over tasks and cells."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import names

HEALTHY = 0.5
"""The share of the sequence that a healthy gradient's memory length reaches over."""


def points(results: pd.DataFrame) -> pd.DataFrame:
    """A row a run: model, task, seed, `init` and `end`, the memory length as a share of the sequence, of c where there
    is a c, and `score`, the share of the chance level's loss that is gone."""
    table = results[["model", "task", "seed", "solved"]].copy()
    for when in ("init", "end"):
        lengths = results[f"memory_length_{when}/h"]
        if f"memory_length_{when}/c" in results:
            lengths = results[f"memory_length_{when}/c"].fillna(lengths)
        table[when] = lengths / (results["seq_len"] - 1)
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
    lines = ["| solved; memory length at initialisation → after training | " + " | ".join(tasks) + " |"]
    lines.append("| --- |" + " ---: |" * len(tasks))
    for model, runs in table.groupby("model"):
        cells = []
        for task in tasks:
            group = runs[runs["task"] == task]
            if group.empty:
                cells.append("")
                continue
            reach = [f"{group[when].median():.0%}" for when in ("init", "end")]
            cells.append(f"{group['solved'].sum()}/{len(group)}; {reach[0]} → {reach[1]}")
        lines.append(f"| `{model}` | " + " | ".join(cells) + " |")
    said = ["\n".join(lines)]
    healthy = table["init"] >= HEALTHY
    for condition, rows in (("reaches over half the sequence", table[healthy]), ("does not", table[~healthy])):
        said.append(
            f"Of the runs whose gradient at initialisation {condition}, {rows['solved'].sum()} of {len(rows)} solve "
            "their task."
        )
    forgetful = table[(table["end"] < HEALTHY) & table["solved"]]
    if len(forgetful):
        pairs = forgetful.groupby(["task", "model"]).size()
        said.append(
            "Solved, although in the trained model the gradient reaches over less than half the sequence: "
            + names(f"`{model}` on {task} ({count})" for (task, model), count in pairs.items())
            + "."
        )
    both = table[(table[["init", "end"]] >= HEALTHY).all(axis=1) & ~table["solved"]]
    if len(both):
        pairs = both.groupby(["task", "model"]).size()
        said.append(
            "A healthy gradient before and after training, and not solved: "
            + names(f"`{model}` on {task} ({count})" for (task, model), count in pairs.items())
            + "."
        )
    return said
