"""What a report says of tasks on which nothing counts as solved: test scores, beside those of the baselines."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from .records import markdown_table
from .style import Style, named, ordered

TEST, BASELINE = "test/", "baseline."


def columns(results: pd.DataFrame) -> list[str]:
    """The scores that a task's runs have, by their columns."""
    return [c for c in results if c.startswith(TEST) and results[c].notna().any()]


def baselines(results: pd.DataFrame) -> dict[str, pd.Series]:
    """Of a task's runs: for each baseline its scores by the name of the metric, the mean of the runs'."""
    found: dict[str, dict[str, float]] = {}
    for column in results:
        if column.startswith(BASELINE) and results[column].notna().any():
            name, _, metric = column.removeprefix(BASELINE).rpartition(".test/")
            found.setdefault(name, {})[metric] = results[column].astype(float).mean()
    return {name: pd.Series(scores) for name, scores in found.items()}


def spread(values: pd.Series) -> str:
    """The mean of the runs, and from the least to the largest."""
    mean = f"{values.mean():.4g}"
    return f"{mean} ({values.min():.4g} to {values.max():.4g})" if len(values) > 1 else mean


def tables(results: pd.DataFrame) -> list[str]:
    """For each task a table: the baselines, then the settings, against the test scores."""
    parts = []
    for task, runs in results.groupby("task"):
        scores = columns(runs)
        rows = [
            [name, *(f"{known[c.removeprefix(TEST)]:.4g}" for c in scores)] for name, known in baselines(runs).items()
        ]
        for label, own in ordered(runs.groupby("label")):
            rows.append([f"`{label}`", *(spread(own[c].dropna().astype(float)) for c in scores)])
        parts.append(markdown_table([f"{task}, on test data", *(c.removeprefix(TEST) for c in scores)], rows))
    return parts


def figure(results: pd.DataFrame, style: Style) -> Figure:
    """A panel for each task and score but the loss, if there is another: a point a run, and the baselines as lines."""
    panels = []
    for task, runs in results.groupby("task"):
        scores = [c for c in columns(runs) if c != "test/loss"] or ["test/loss"]
        panels += [(task, runs, c) for c in scores]
    rows = max(runs["label"].nunique() for _, runs, _ in panels)
    known = max(len(baselines(runs)) for _, runs, _ in panels)
    size = (4.6 * len(panels) + 1.5, 0.34 * rows + 1.5 + 0.2 * known)
    drawn = Figure(figsize=size, layout="constrained")
    for ax, (task, runs, column) in zip(drawn.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        groups = ordered(runs.groupby("label"))
        for y, (label, own) in enumerate(groups):
            look = {k: v for k, v in style[label].items() if k != "linestyle"}
            ax.plot(own[column], [y] * len(own), linestyle="", markersize=6, alpha=0.8, **look)
        metric = column.removeprefix(TEST)
        low, high = runs[column].min(), runs[column].max()
        near = 3 * max(high - low, 0.01 * abs(high))  # what lies further off would leave no room for the runs
        for k, (name, known) in enumerate(baselines(runs).items()):
            look = {"color": "0.4", "linestyle": ("--", ":", "-.", (0, (1, 3)))[k % 4], "linewidth": 1}
            if low - near <= known[metric] <= high + near:
                ax.axvline(known[metric], label=name, **look)
            else:
                ax.plot([], [], label=f"{name}: {known[metric]:.3g}, out of sight", **look | {"linestyle": "none"})
        ax.set_yticks(range(len(groups)), [named(label) for label, _ in groups])
        ax.set_ylim(len(groups) - 0.5, -0.5)
        ax.set(xlabel=f"{metric} on test data", title=task)
        ax.grid(alpha=0.25)
        if baselines(runs):
            below = ax.transAxes + ScaledTranslation(0, -0.5, drawn.dpi_scale_trans)  # inches, under the axis' label
            ax.legend(fontsize=8, title="baselines", title_fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0),
                      bbox_transform=below)  # fmt: skip
    return drawn
