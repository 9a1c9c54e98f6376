"""When a simple RNN is enough, and what the others cost: the loss against the number of training sequences."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import markdown_table, names


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    results = results.assign(relative=results["test/loss"] / results["chance"])
    style = figures.styles(results["model"].unique())
    lengths = sorted(results["seq_len"].unique())
    figure = Figure(figsize=(4.2 * len(lengths) + 0.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(lengths), squeeze=False, sharey=True)[0]
    for ax, length in zip(panels, lengths, strict=True):
        for model, runs in results[results["seq_len"] == length].groupby("model"):
            curves = runs.pivot_table(index="config.train_size", columns="seed", values="relative")
            label = f"{model} ({runs['parameters'].iloc[0]:,.0f} parameters)"
            figures.band(ax, label, curves, style[model], None)
        for level, name in ((1, "chance"), (0.1, "solved")):
            figures.mark(ax, level, name if ax is panels[-1] else "")
        ax.set(xscale="log", yscale="log", xlabel="training sequences", title=f"seq_len {length}")
        ax.grid(alpha=0.25)
    panels[0].set_ylabel("test loss / chance")
    figures.legend(figure, panels[0])
    seeds = results["seed"].nunique()
    figure.suptitle(f"What each model learns from how much data (mean and range of {seeds} seeds)", fontsize=11)
    return figure


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    sizes = sorted(results["config.train_size"].unique())
    rows = []
    results = results.assign(relative=results["test/loss"] / results["chance"])
    said = []
    for length, of_length in results.groupby("seq_len"):
        needed = {}
        for model, runs in of_length.groupby("model"):
            median = runs.groupby("config.train_size")["relative"].median()
            rows.append([f"`{model}`, seq_len {length}", *(f"{value:.3f}" for value in median.reindex(sizes))])
            share = runs.groupby("config.train_size")["solved"].mean()
            enough = share.index[share > 0.5]
            needed[model] = f"{min(enough):.0f}" if len(enough) else None
        solved = [f"{count} (`{model}`)" for model, count in needed.items() if count]
        never = [f"`{model}`" for model, count in needed.items() if not count]
        parts = [f"from {names(solved)} training sequences"] if solved else []
        parts += [f"at no number tried with {names(never)}"] if never else []
        said.append(f"At {length} steps most seeds solve it {' and '.join(parts)}.")
    parameters = results.groupby("model")["parameters"].first()
    said.append(f"Parameters: {names(f'{count:,.0f} (`{model}`)' for model, count in parameters.items())}.")
    return [markdown_table(["median test loss / chance", *(f"{size:.0f}" for size in sizes)], rows), *said]
