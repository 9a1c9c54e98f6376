"""When a simple RNN is enough, and what limits those that fail: the data, or the training itself."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..records import Tables, labels, markdown_table, names, steps_to_solve
from ..style import named, styles

SIZE, RATE = "config.train_size", "config.optimizer.lr"
LAST = 10
"""The training loss is the mean of so many of those logged last."""
SOLVED = 0.1
"""The share of the baseline's loss at which a run counts as solved, and stops: how far under it ends means nothing."""


def points(tables: Tables) -> pd.DataFrame:
    """The results, with `setting`, all that varies but size and rate; `test`, `train`: losses over the baseline's."""
    results = tables.results
    logged = tables.loss_curves.dropna(subset="train/loss").groupby("run")["train/loss"]
    train = results["run"].map(logged.apply(lambda losses: losses.tail(LAST).mean()))
    return results.assign(
        setting=labels(results, without=[SIZE, RATE]),
        test=results["test/loss"] / results["baseline_loss"],
        train=train / results["baseline_loss"],
    )


def figure(tables: Tables) -> Figure:
    table = points(tables)
    style = styles(table["setting"])
    lengths = sorted(table["seq_len"].unique())
    figure = Figure(figsize=(4.2 * len(lengths) + 0.6, 6.4), layout="constrained")
    grid = figure.subplots(2, len(lengths), squeeze=False, sharex=True, sharey="row")
    for column, (axes, length) in enumerate(zip(grid.T, lengths, strict=True), 1):
        for ax, kind in zip(axes, ("test", "train"), strict=True):
            for setting, runs in table[table["seq_len"] == length].groupby("setting"):
                curves = runs.pivot_table(index=SIZE, columns="seed", values=kind).clip(lower=SOLVED)
                label = f"{named(setting)} ({runs['parameters'].iloc[0]:,.0f} parameters)"
                figures.band(ax, label, curves, style[setting])
            for level, name in ((1, "baseline"), (SOLVED, "solved")):
                figures.mark(ax, level, name if column == len(lengths) else "")
            ax.set(xscale="log", yscale="log")
            ax.grid(alpha=0.25)
        axes[0].set_title(f"T = {length}", fontsize=10)
        axes[1].set_xlabel("training sequences")
    for ax, kind in zip(grid[:, 0], ("test", "training"), strict=True):
        ax.set_ylabel(f"{kind} loss / baseline")
    figures.legend(figure, grid[0, :1])
    seeds = table["seed"].nunique()
    figure.suptitle(
        f"What each model learns from how much data (mean and range of {seeds} seeds; a solved run stops there)",
        fontsize=11,
    )
    return figure


def findings(tables: Tables) -> list[str]:
    table = points(tables)
    sizes = sorted(table[SIZE].unique())
    rows, said = [], []
    for length, of_length in table.groupby("seq_len"):
        needed, limits = {}, {"the data": [], "the training": []}
        for setting, runs in of_length.groupby("setting"):
            row = [f"`{setting}`, T = {length}"]
            for size in sizes:
                own = runs[runs[SIZE] == size]
                test, train = own["test"].median(), own["train"].median()
                solved = own["solved"].mean() > 0.5
                if solved:
                    needed.setdefault(setting, f"{size:.0f} (`{setting}`)")
                else:
                    limits["the data" if train < test / 2 else "the training"].append(f"`{setting}` on {size:.0f}")
                told = f"{steps_to_solve(own)} steps" if solved else f"{test:.2f} / {train:.2f}"
                row.append(f"{own['solved'].sum()}/{len(own)}; {told}" if len(own) else "")
            rows.append(row)
        if needed:
            said.append(f"At {length} steps most seeds solve it from {names(needed.values())} training sequences.")
        for what, settings in limits.items():
            if settings:
                said.append(f"At {length} steps {what} limits {names(settings)}.")
    said.append(
        "Of what is not solved, the data counts as the limit where the training loss is under half of the test loss, "
        "the training where it is not."
    )
    parameters = table.groupby("setting")["parameters"].first()
    said.append(f"Parameters: {names(f'{count:,.0f} (`{setting}`)' for setting, count in parameters.items())}.")
    heads = [
        "seeds that solve it; median steps until then, or test / training loss over the baseline's",
        *(f"{size:.0f}" for size in sizes),
    ]
    return [markdown_table(heads, rows), *said]
