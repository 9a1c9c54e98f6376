"""What is learnt with one way back barred to the gradient, beside what each way carries."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import markdown_table

LOOKS = {
    "both ways": {"color": "#000000", "linestyle": "-", "marker": "o"},
    "carousel only": {"color": "#0072B2", "linestyle": "--", "marker": "s"},
    "gates only": {"color": "#D55E00", "linestyle": "-.", "marker": "^"},
    "neither": {"color": "#999999", "linestyle": ":", "marker": "x"},
    "h-detach": {"color": "#009E73", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "D"},
}


def ways(results: pd.DataFrame) -> pd.Series:
    """What each run left open to the gradient."""
    gates, carousel = (results[f"config.model.detach.{name}"] for name in ("gates", "carousel"))
    said = pd.Series("both ways", results.index)
    said[(gates > 0) & (gates < 1)] = "h-detach"
    said[gates == 1] = "carousel only"
    said[carousel == 1] = "gates only"
    said[(gates == 1) & (carousel == 1)] = "neither"
    return said


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    results = results.assign(ways=ways(results), relative=results["test/loss"] / results["chance"])
    models = sorted(results["model"].unique())
    figure = Figure(figsize=(10, 3.1 * len(models) + 0.7), layout="constrained")
    grid = figure.subplots(len(models), 2, squeeze=False, sharex=True, width_ratios=(1.15, 1))
    lengths = sorted(results["seq_len"].unique())
    for (loss, share), model in zip(grid, models, strict=True):
        runs = results[results["model"] == model]
        for k, (name, look) in enumerate(LOOKS.items()):
            curves = runs[runs["ways"] == name].pivot_table(index="seq_len", columns="seed", values="relative")
            mean = curves.mean(axis=1)
            reach = [mean - curves.min(axis=1), curves.max(axis=1) - mean]
            beside = curves.index * 1.02 ** (k - 2)  # or the bars would cover one another
            loss.errorbar(beside, mean, yerr=reach, label=name, linewidth=1.4, elinewidth=0.9, markersize=5, **look)
        figures.mark(loss, 0.1, "solved")
        loss.set(yscale="log", ylabel="test loss / chance", title=f"{model}: what is learnt")
        whole = runs[runs["ways"] == "both ways"]
        for name, way in (("carousel only", "carousel"), ("gates only", "gates")):
            for when, fill in (("init", "none"), ("end", "full")):
                if f"paths_{when}/{way}" not in whole:
                    continue
                curves = whole.pivot_table(index="seq_len", columns="seed", values=f"paths_{when}/{way}")
                look = LOOKS[name] | {
                    "linestyle": ":" if when == "init" else LOOKS[name]["linestyle"],
                    "fillstyle": fill,
                }
                label = f"{way}, {'at initialisation' if when == 'init' else 'after training'}"
                figures.band(share, label, curves, look, None)
        share.set(title=f"{model}: what each way carries by itself", ylabel="log10 of its share of ∂L/∂c")
        share.axhline(0, color="0.5", linewidth=0.8)
        for ax in (loss, share):
            ax.set_xscale("log")
            ax.set_xticks(lengths, lengths)
            ax.minorticks_off()
            ax.grid(alpha=0.25)
    for ax, columns in ((grid[-1, 0], 3), (grid[-1, 1], 2)):
        ax.set_xlabel("seq_len (time steps)")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, frameon=False, fontsize=9)
    figure.suptitle(
        f"Which way back the gradient needs (mean and range of {results['seed'].nunique()} seeds; right: with both "
        "ways open, over half the sequence)",
        fontsize=11,
    )
    return figure


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    results = results.assign(ways=ways(results))
    lengths = sorted(results["seq_len"].unique())
    rows = []
    for (model, name), runs in results.groupby(["model", "ways"], sort=False):
        solved = [runs.loc[runs["seq_len"] == length, "solved"] for length in lengths]
        rows.append([f"`{model}`, {name}", *(f"{s.sum()}/{len(s)}" for s in solved)])
    said = [markdown_table(["seeds that solve it", *lengths], rows)]
    for model, runs in results[results["ways"] == "both ways"].groupby("model"):
        longest = runs[runs["seq_len"] == max(lengths)]
        carried = [
            f"{name} {10 ** longest[f'paths_init/{name}'].median():.1e} of the whole gradient's norm at initialisation "
            f"and {10 ** longest[f'paths_end/{name}'].median():.1e} after training"
            for name in ("carousel", "gates")
            if f"paths_init/{name}" in longest
        ]
        if carried:
            said.append(f"`{model}`, over half of {max(lengths)} steps, by itself (medians): {'; '.join(carried)}.")
    return said
