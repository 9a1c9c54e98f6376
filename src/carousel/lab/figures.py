"""Tables to figures."""

import math
from collections.abc import Iterable
from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from .records import BUDGET, length, places, relative, told, value, varied
from .style import Style, levels, named, ordered

FLOOR = -20.0
"""Decimal logarithm under which gradient curves are cut: far below anything that training could notice."""
TOP = 5.0
"""Times the baseline's, over which losses are cut: a spike would flatten everything else."""
VALIDATED = "val/baseline_"
"""How the columns begin with what the baselines lose on validation data."""
THEORY = "theory, for the first lags"
GREENS = LinearSegmentedColormap.from_list("", ["white", "#7fbf9b"])


def legend(figure: Figure, axes: Iterable[Axes], style: Style | None = None) -> None:
    """One legend for the whole figure, under the panels, where it covers no line; the figure grows by its height.

    Its entries are in the order of `style`, or else as they were drawn.
    """
    found = [ax.get_legend_handles_labels() for ax in axes]
    handles = {label: handle for handles, labels in found for handle, label in zip(handles, labels, strict=True)}
    if style:
        handles = {name: handles[name] for name in [*map(named, style), THEORY] if name in handles}
    if not handles:
        return
    width, height = figure.get_size_inches()
    entry = 0.75 + 0.078 * max(map(len, handles))  # inches: the line, and the text at 9 points
    rows = math.ceil(len(handles) / max(1, int(width / entry)))
    columns = math.ceil(len(handles) / rows)  # as full as the rest
    figure.set_size_inches(max(width, entry), height + 0.19 * rows)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def every(curves: pd.DataFrame, k: int) -> tuple[int, int]:
    """Where the k-th of several curves has its markers: eight, a little apart from the others'."""
    step = max(1, len(curves) // 8)
    return (k * step // 5 % step, step)


def band(ax: Axes, label: str, curves: pd.DataFrame, style: dict, markevery=None) -> None:
    """The mean of several seeds, one a column, in a band from the least to the largest."""
    ax.plot(curves.index, curves.mean(axis=1), label=label, linewidth=1.4, markersize=4, markevery=markevery, **style)
    if curves.shape[1] > 1:
        ax.fill_between(curves.index, curves.min(axis=1), curves.max(axis=1), color=style["color"], alpha=0.15, lw=0)


def threads(ax: Axes, label: str, curves: pd.DataFrame, style: dict, k: int) -> None:
    """A thin line for each run, one a column; each to its own end, where it has a marker."""
    for i, (_, curve) in enumerate(curves.items()):
        curve = curve.dropna()
        marks = [*range(*every(curve, k)[:1], len(curve), every(curve, k)[1]), len(curve) - 1] if len(curve) else None
        ax.plot(curve.index, curve, label=None if i else label, linewidth=0.9, markersize=3, markevery=marks, **style)


def mark(ax: Axes, y: float, name: str) -> None:
    """A level, named beside the panel, where it covers no line."""
    ax.axhline(y, color="0.5", linewidth=0.8)
    ax.annotate(name, (1.01, y), xycoords=("axes fraction", "data"), color="0.4", va="center", fontsize=8)


def decades(ax: Axes) -> None:
    """Show whole decimal logarithms on the y axis as powers of ten."""
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"$10^{{{y:.0f}}}$"))


def plain(ax: Axes) -> None:
    """A few numbers as they are on a logarithmic y axis, not so many as to run into each other."""
    low, high = ax.get_ylim()
    digits = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7)
    ax.yaxis.set_major_locator(LogLocator(subs=digits) if high > 2 * low else MaxNLocator(5))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def derivative(state: str, layer: int | None = None, direction: str = "forward") -> str:
    """dL/dh at lag k, for a title; with the layer and the direction where there are several."""
    symbol = state if len(state) == 1 else rf"\mathrm{{{state}}}".replace("_", r"\_")
    above = "" if layer is None else rf"^{{({layer})}}"
    return rf"$\partial L/\partial {symbol}{above}_{{T-k}}$" + ", reverse" * (direction == "reverse")


def gradient_flow(flow: pd.DataFrame, style: Style) -> Figure:
    """The gradient's norm relative to lag 0 against the lag, of each task at its largest length: before training, with
    what theory expects, and after; a row for each layer, direction and state."""
    longest = flow.groupby("task")["seq_len"].transform("max")
    flow = relative(flow[flow["seq_len"] == longest])
    several = len(places(flow)) > 1
    rows = list(flow.groupby(["task", "layer", "direction", "state"], sort=True))
    tasks = flow["task"].nunique()
    height = 2.9 if len(rows) < 5 else 1.8  # two layers in both directions are no poster
    figure = Figure(figsize=(9, height * len(rows) + 0.6), layout="constrained")
    grid = figure.subplots(len(rows), 2, sharey=True, sharex="row", squeeze=False)
    top, bottom = 1.0, -2.5
    for axes, ((task, layer, direction, state), part) in zip(grid, rows, strict=True):
        for ax, when in zip(axes, ("at initialisation", "after training"), strict=True):
            step = part.groupby("run")["step"].transform("max" if when == "after training" else "min")
            for k, (label, runs) in enumerate(ordered(part[part["step"] == step].groupby("label"))):
                curves = runs.pivot_table(index="lag", columns="run", values="log10_norm")
                if len(curves):
                    top = max(top, min(curves.max().max() + 1, -FLOOR))
                    bottom = min(bottom, max(curves.min().min() - 0.5, FLOOR))
                    band(ax, named(label), curves, style[label], every(curves, k))
                if when == "at initialisation" and "predicted" in runs and runs["predicted"].notna().any():
                    expected = runs.dropna(subset="predicted").groupby("lag")["predicted"].mean()
                    ax.plot(expected, color=style[label]["color"], linestyle=":", linewidth=1)
                    ax.plot([], [], color="0.3", linestyle=":", linewidth=1, label=THEORY)
            mark(ax, -2, "1%")
            title = f"{derivative(state, *(layer, direction) if several else ())}, {when}"
            ax.set_title(f"{task}: {title}" if tasks > 1 else title, fontsize=10)
            decades(ax)
            ax.grid(alpha=0.25)
            if part["log10_norm"].isna().all():
                ax.text(0.5, 0.5, "no gradient at lag 0", transform=ax.transAxes, ha="center", va="center")
        axes[0].set_ylabel("norm relative to lag 0")
    grid[0, 0].set_ylim(bottom, top)
    for ax in grid[-1]:
        ax.set_xlabel("lag k (time steps back from the loss)")
    over = "; geometric mean and range of the runs" * bool(flow.groupby(["task", "label"])["run"].nunique().max() > 1)
    over += "; superscript: the layer" * (len({layer for layer, _ in places(flow)}) > 1)
    lengths = " or ".join(f"{lag + 1}" for lag in sorted(flow.groupby("run")["lag"].max().unique()))
    figure.suptitle(f"How much of the error reaches earlier states (sequence length T = {lengths}{over})", fontsize=11)
    legend(figure, grid.flat, style)
    return figure


def solved(results: pd.DataFrame, style: Style) -> Figure:
    """How many runs of each setting solve each task, and after how many training steps.

    For each task a table: of settings and lengths, or, at one length, of the values of the two things that vary. Where
    there are several lengths, beside it the steps against the length.
    """
    finished = results[results["status"] == "finished"]
    factors, tasks = varied(finished), sorted(finished["task"].unique())
    several = finished["seq_len"].nunique() > 1
    crossed = not several and len(factors) == 2 and finished["model"].nunique() == 1
    rows, columns = factors if crossed else ("label", "seq_len")
    heights = [0.42 * finished.loc[finished["task"] == task, rows].astype(str).nunique() + 1.1 for task in tasks]
    figure = Figure(figsize=(10 if several else 7, max(sum(heights), 3.4 if several else 0)), layout="constrained")
    grid = figure.subplots(
        len(tasks), 1 + several, height_ratios=heights, width_ratios=(1, 1.1)[: 1 + several], squeeze=False
    )
    for axes, task in zip(grid, tasks, strict=True):
        runs = finished[finished["task"] == task]
        _table(axes[0], runs, rows, columns)
        axes[0].set_title(task if len(tasks) > 1 else "", fontsize=10)
        if several:
            _steps(axes[1], runs, style)
    words = (
        "Runs that solve the task; where most do, the median of the training steps until then, else of the test loss"
    )
    figure.suptitle(f"{words} over the baseline's", fontsize=10, wrap=True)
    legend(figure, chain.from_iterable(axes[1:] for axes in grid), style)
    return figure


def _table(ax: Axes, runs: pd.DataFrame, rows: str, columns: str) -> None:
    words = runs.assign(row=runs[rows].map(value), column=runs[columns].map(value))
    heads, sides = levels(runs[columns]), levels(runs[rows])
    share = np.full((len(sides), len(heads)), np.nan)
    for (side, head), group in words.groupby(["row", "column"]):
        i, j = sides.index(side), heads.index(head)
        share[i, j] = group["solved"].mean()
        ax.text(j, i, "\n".join(told(group)), ha="center", va="center", fontsize=8)
    ax.imshow(share, cmap=GREENS, vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(heads)), heads)
    ax.set_yticks(range(len(sides)), [named(side) if rows == "label" else side for side in sides])
    ax.set_xlabel("sequence length T" if columns == "seq_len" else columns.removeprefix("config."))
    ax.set_ylabel("" if rows == "label" else rows.removeprefix("config."))


def _steps(ax: Axes, runs: pd.DataFrame, style: Style) -> None:
    """The median of the steps until solved against the length, while most runs solve it; settings side by side. An
    unsolved run counts with all the steps that it may take."""
    lengths = sorted(runs["seq_len"].unique())
    groups = ordered(runs.groupby("label"))
    for k, (label, own) in enumerate(groups):
        known = own[own["steps_to_solve"].notna() | ~own["solved"].astype(bool)]
        known = known[known["seq_len"].map(known.groupby("seq_len")["solved"].mean()) > 0.5]
        known = known.fillna({"steps_to_solve": known[BUDGET]})
        if len(known):
            shift = 1.0 + 0.012 * (k - len(groups) / 2)  # or equal points would cover one another
            steps = known.groupby("seq_len")["steps_to_solve"].agg(["median", "min", "max"]).astype(float)
            reach = [steps["median"] - steps["min"], steps["max"] - steps["median"]]
            ax.errorbar(
                steps.index * shift,
                steps["median"],
                yerr=reach,
                label=named(label),
                linewidth=1.3,
                elinewidth=0.8,
                markersize=4.5,
                **style[label],
            )
    ax.set(
        title="steps until solved (median, range; where most runs are)",
        xlabel="sequence length T",
        ylabel="training steps",
    )
    ax.title.set_fontsize(10)
    if not ax.lines:
        ax.set_axis_off()
        counted = runs.loc[runs["solved"].astype(bool), "steps_to_solve"].notna().all()
        said = "no length is solved by most runs" if counted else "not counted: callbacks.stop_when_solved is off"
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center")
        return
    ax.set(xscale="log", yscale="log")
    ax.set_xlim(min(lengths) * 0.85, max(lengths) * 1.2)
    ax.set_xticks(lengths, lengths)
    ax.xaxis.set_minor_formatter(NullFormatter())
    plain(ax)
    ax.grid(alpha=0.25, which="both")


def loss_curves(curves: pd.DataFrame, results: pd.DataFrame, style: Style) -> Figure:
    """Validation loss over the baseline's against the training step, a thin line a run; a panel for each task and
    length. Of a task that does not say what counts as solved each baseline is named, the first at 1."""
    curves = curves.dropna(subset="val/loss")
    curves = curves.assign(loss=curves["val/loss"] / curves["run"].map(results.set_index("run")["baseline_loss"]))
    panels = list(curves.groupby(["task", "seq_len"]))
    rows = -(-len(panels) // 3)
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(3.6 * columns + 0.6 + 1.6 * (columns == 1), 2.7 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    goal = results.groupby("task")["solved"].count() > 0
    for ax, ((task, seq_len), part) in zip(grid.flat, panels, strict=False):
        for k, (label, runs) in enumerate(ordered(part.groupby("label"))):
            threads(ax, named(label), runs.pivot_table(index="step", columns="run", values="loss"), style[label], k)
        for name, level in {"baseline": 1, "solved": 0.1}.items() if goal[task] else levels_of_baselines(results, task):
            mark(ax, level, name)
        words = (task * (curves["task"].nunique() > 1 or not seq_len), length(seq_len))
        ax.set_title(", ".join(filter(None, words)), fontsize=10)
        ax.set(yscale="log", xlabel="training step")
        ax.grid(alpha=0.25)
    for ax in grid.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in grid[:, 0]:
        ax.set_ylabel("validation loss / baseline")
    low, high = grid[0, 0].get_ylim()
    best = max(float(part["loss"].min()) for _, part in panels)  # which every panel shows, however bad it is
    low, high = max(low, 1e-6), min(high, max(TOP, 2 * best))
    grid[0, 0].set_ylim(low, high)
    for ax in grid.flat if high < 100 * low else ():  # where powers of ten alone would leave it without a number
        plain(ax)
    legend(figure, grid.flat, style)
    return figure


def levels_of_baselines(results: pd.DataFrame, task: str) -> list[tuple[str, float]]:
    """The validation loss of each of a task's baselines over the first one's, where the figure shows it."""
    runs = results[results["task"] == task]
    found = {
        column.removeprefix(VALIDATED): (runs[column] / runs["baseline_loss"]).mean()
        for column in runs
        if column.startswith(VALIDATED) and runs[column].notna().any()
    }
    return [(name, level) for name, level in (found or {"baseline": 1.0}).items() if level < TOP]


def heatmap(title: str, steps: list[int], log10_norm: Tensor) -> Figure:
    """Training step x lag, for one state: `log10_norm` is (len(steps), T). Of many steps, 60 evenly apart."""
    kept = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 60)).round().astype(int))
    steps, log10_norm = [steps[k] for k in kept], log10_norm[kept]
    relative = (log10_norm - log10_norm[:, :1]).clamp(-10, 10)
    figure = Figure(figsize=(7, 0.25 * len(steps) + 2), layout="constrained")
    ax = figure.subplots()
    top = max(0.0, float(relative.nan_to_num().max()))
    image = ax.imshow(relative.numpy(), aspect="auto", cmap="cividis", vmin=-10, vmax=top, interpolation="nearest")
    ax.set_yticks(range(len(steps)), [str(step) for step in steps])
    ax.set(xlabel="lag k (time steps back from the loss)", ylabel="training step")
    ax.set_title(rf"norm of {title} relative to lag 0 (cut at $10^{{\pm 10}}$)")
    figure.colorbar(image, label="decimal logarithm")
    return figure
