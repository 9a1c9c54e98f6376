"""When a simple RNN is enough, and what the others cost: the loss against the number of training sequences."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import Tables, labels, markdown_table, names

SIZE = "config.train_size"
LAST = 10
"""The training loss is the mean of so many of those logged last."""


def points(tables: Tables) -> pd.DataFrame:
    """The results, with `setting`, all that varies but the size, and `test` and `train`, losses over the baseline's."""
    results = tables.results
    logged = tables.loss_curves.dropna(subset="train/loss").groupby("run")["train/loss"]
    train = results["run"].map(logged.apply(lambda losses: losses.tail(LAST).mean()))
    return results.assign(
        setting=labels(results, without=[SIZE]),
        test=results["test/loss"] / results["chance"],
        train=train / results["chance"],
    )


def figure(tables: Tables) -> Figure:
    table = points(tables)
    style = figures.styles(table["setting"])
    lengths = sorted(table["seq_len"].unique())
    figure = Figure(figsize=(4.2 * len(lengths) + 0.6, 6.4), layout="constrained")
    grid = figure.subplots(2, len(lengths), squeeze=False, sharex=True, sharey="row")
    for axes, length in zip(grid.T, lengths, strict=True):
        for ax, kind in zip(axes, ("test", "train"), strict=True):
            for setting, runs in table[table["seq_len"] == length].groupby("setting"):
                curves = runs.pivot_table(index=SIZE, columns="seed", values=kind)
                label = f"{figures.named(setting)} ({runs['parameters'].iloc[0]:,.0f} parameters)"
                figures.band(ax, label, curves, style[setting])
            for level, name in ((1, "baseline"), (0.1, "solved")):
                figures.mark(ax, level, name if axes is grid.T[-1] else "")
            ax.set(xscale="log", yscale="log")
            ax.grid(alpha=0.25)
        axes[0].set_title(f"T = {length}", fontsize=10)
        axes[1].set_xlabel("training sequences")
    for ax, kind in zip(grid[:, 0], ("test", "training"), strict=True):
        ax.set_ylabel(f"{kind} loss / baseline")
    figures.legend(figure, grid[0, :1])
    seeds = table["seed"].nunique()
    figure.suptitle(f"What each model learns from how much data (mean and range of {seeds} seeds)", fontsize=11)
    return figure


def findings(tables: Tables) -> list[str]:
    table = points(tables)
    sizes = sorted(table[SIZE].unique())
    rows, said = [], []
    for length, of_length in table.groupby("seq_len"):
        needed = {}
        for setting, runs in of_length.groupby("setting"):
            medians = runs.groupby(SIZE)[["test", "train"]].median().reindex(sizes)
            rows.append(
                [f"`{setting}`, T = {length}", *(f"{m.test:.3f} / {m.train:.3f}" for m in medians.itertuples())]
            )
            share = runs.groupby(SIZE)["solved"].mean()
            enough = share.index[share > 0.5]
            needed[setting] = f"{min(enough):.0f}" if len(enough) else None
        solved = [f"{count} (`{setting}`)" for setting, count in needed.items() if count]
        never = [f"`{setting}`" for setting, count in needed.items() if not count]
        parts = [f"from {names(solved)} training sequences"] if solved else []
        parts += [f"at no number tried with {names(never)}"] if never else []
        said.append(f"At {length} steps most seeds solve it {' and '.join(parts)}.")
    parameters = table.groupby("setting")["parameters"].first()
    said.append(f"Parameters: {names(f'{count:,.0f} (`{setting}`)' for setting, count in parameters.items())}.")
    heads = ["median test / training loss, of the baseline's", *(f"{size:.0f}" for size in sizes)]
    return [markdown_table(heads, rows), *said]
