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
    style = figures.styles(table["model"].unique())
    tasks = sorted(table["task"].unique())
    figure = Figure(figsize=(2.9 * len(tasks) + 0.6, 4.6), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True, sharex=True, squeeze=False)[0]
    for ax, task in zip(axes, tasks, strict=True):
        for model, runs in table[table["task"] == task].groupby("model"):
            look = {"color": style[model]["color"], "marker": style[model]["marker"]}
            middle = runs[["init", "end", "score"]].median()
            spread = [[middle["score"] - runs["score"].min()], [runs["score"].max() - middle["score"]]]
            ax.errorbar(middle["init"], middle["score"], yerr=spread, color=look["color"], linewidth=0.8)
            ax.plot(
                [middle["init"], middle["end"]], [middle["score"]] * 2, color=look["color"], linewidth=0.8, alpha=0.6
            )
            ax.plot(middle["init"], middle["score"], linestyle="", markersize=7, label=model, **look)
            ax.plot(middle["end"], middle["score"], linestyle="", markersize=5, markerfacecolor="white", **look)
        ax.axhline(0.9, color="0.5", linewidth=0.8, linestyle=":")
        ax.axvline(HEALTHY, color="0.5", linewidth=0.8, linestyle=":")
        length = results.loc[results["task"] == task, "seq_len"].iloc[0]
        ax.set(title=f"{task}, {length} steps", xlabel="memory length / seq_len", xlim=(-0.05, 1.05))
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("share of the chance level's loss that is gone")
    figure.suptitle(
        f"The gradient's reach and what is learnt (median of {results['seed'].nunique()} seeds; filled: at "
        "initialisation, with the range; open: after training; above the dotted line: solved)",
        fontsize=11,
    )
    figures.legend(figure, axes[0])
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
    both = table[(table[["init", "end"]] >= HEALTHY).all(axis=1) & ~table["solved"]]
    if len(both):
        pairs = both.groupby(["task", "model"]).size()
        said.append(
            "A healthy gradient before and after training, and not solved: "
            + names(f"`{model}` on {task} ({count})" for (task, model), count in pairs.items())
            + "."
        )
    return said
