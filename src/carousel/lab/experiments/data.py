"""When a simple RNN is enough, and what the others cost: the loss against the number of training sequences."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import names


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    results = results.assign(relative=results["test/loss"] / results["chance"])
    style = figures.styles(results["model"].unique())
    lengths = sorted(results["seq_len"].unique())
    figure = Figure(figsize=(3.3 * len(lengths) + 3.2, 4.2), layout="constrained")
    *panels, cost = figure.subplots(1, len(lengths) + 1, squeeze=False, width_ratios=[1.0] * len(lengths) + [0.8])[0]
    for ax, length in zip(panels, lengths, strict=True):
        for model, runs in results[results["seq_len"] == length].groupby("model"):
            curves = runs.pivot_table(index="config.train_size", columns="seed", values="relative")
            figures.band(ax, model, curves, style[model], None)
        ax.axhline(1, color="0.5", linewidth=0.8)
        ax.axhline(0.1, color="0.5", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", yscale="log", xlabel="training sequences", title=f"seq_len {length}")
        ax.grid(alpha=0.25)
        ax.sharey(panels[0])
    panels[0].set_ylabel("test loss / chance (dotted: solved)")
    price = costs(results)
    base = price.index[0] if "rnn" not in price.index else "rnn"
    ratio = price / price.loc[base]
    for k, model in enumerate(ratio.index):
        look = {"color": style[model]["color"], "hatch": ["", "//", "..", "xx", "\\\\"][k % 5], "edgecolor": "white"}
        at = [j + 0.8 * (k + 0.5) / len(ratio) - 0.4 for j in range(2)]
        bars = cost.bar(at, ratio.loc[model, ["parameters", "time"]], width=0.8 / len(ratio), label=model, **look)
        cost.bar_label(bars, fmt="%.1f", fontsize=8)
    cost.set_xticks(range(2), ["parameters", "time per\ntraining step"])
    cost.set(title=f"cost, {base} = 1")
    figures.legend(figure, panels[0])
    figure.suptitle(
        f"What each model learns from how much data (mean and range of {results['seed'].nunique()} seeds)", fontsize=11
    )
    return figure


def costs(results: pd.DataFrame) -> pd.DataFrame:
    """Parameters, and seconds of a training step at the longest sequences, of each model; medians."""
    longest = results[results["seq_len"] == results["seq_len"].max()]
    return (
        longest.assign(time=longest["wall_time_s"] / longest["steps"]).groupby("model")[["parameters", "time"]].median()
    )


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    sizes = sorted(results["config.train_size"].unique())
    lines = ["| median test loss / chance | " + " | ".join(f"{size:.0f}" for size in sizes) + " |"]
    lines.append("| --- |" + " ---: |" * len(sizes))
    results = results.assign(relative=results["test/loss"] / results["chance"])
    said = []
    for length, of_length in results.groupby("seq_len"):
        needed = {}
        for model, runs in of_length.groupby("model"):
            median = runs.groupby("config.train_size")["relative"].median()
            lines.append(
                f"| `{model}`, seq_len {length} | " + " | ".join(f"{median[size]:.3f}" for size in sizes) + " |"
            )
            share = runs.groupby("config.train_size")["solved"].mean()
            enough = share.index[share > 0.5]
            needed[model] = f"{min(enough):.0f}" if len(enough) else None
        solved = [f"{count} (`{model}`)" for model, count in needed.items() if count]
        never = [f"`{model}`" for model, count in needed.items() if not count]
        parts = [f"from {names(solved)} training sequences"] if solved else []
        parts += [f"at no number tried with {names(never)}"] if never else []
        said.append(f"At {length} steps most seeds solve it {' and '.join(parts)}.")
    price = costs(results)
    ratio = price / price.loc["rnn" if "rnn" in price.index else price.index[0]]
    said.append(
        "Parameters and time per training step, the smallest being 1: "
        + names(f"{row.parameters:.1f} and {row.time:.1f} (`{row.Index}`)" for row in ratio.itertuples())
        + "."
    )
    return ["\n".join(lines), *said]
