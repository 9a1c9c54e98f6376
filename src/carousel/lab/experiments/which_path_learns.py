"""What is learnt with one way back barred to the gradient, beside what each way carries."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import Tables, innermost, labels, markdown_table, measured

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


def settings(tables: Tables) -> pd.DataFrame:
    """The results, with what was left open in `ways`, what else varies in `setting`, and the test loss over the
    baseline's in `relative`."""
    results = tables.results
    return results.assign(
        ways=ways(results),
        setting=labels(results, without=("config.model.detach.gates", "config.model.detach.carousel")),
        relative=results["test/loss"] / results["chance"],
    )


def carried(tables: Tables, runs: pd.DataFrame, way: str, when: str) -> pd.Series:
    """For each of the runs what a way carries by itself in the last layer, as log10 of its share of the whole."""
    rows = innermost(measured(tables.measurements, f"paths/{way}", when))
    return runs["run"].map(rows.set_index("run")["value"]).astype(float)


def figure(tables: Tables) -> Figure:
    results = settings(tables)
    models = sorted(results["setting"].unique())
    figure = Figure(figsize=(10, 3.1 * len(models) + 0.7), layout="constrained")
    grid = figure.subplots(len(models), 2, squeeze=False, sharex=True, width_ratios=(1.15, 1))
    lengths = sorted(results["seq_len"].unique())
    for (loss, share), model in zip(grid, models, strict=True):
        runs = results[results["setting"] == model]
        for k, (name, look) in enumerate(LOOKS.items()):
            curves = runs[runs["ways"] == name].pivot_table(index="seq_len", columns="seed", values="relative")
            mean = curves.mean(axis=1)
            reach = [mean - curves.min(axis=1), curves.max(axis=1) - mean]
            beside = curves.index * 1.035 ** (k - 2)  # or the bars would cover one another
            loss.errorbar(beside, mean, yerr=reach, label=name, linewidth=1.4, elinewidth=0.9, markersize=5, **look)
        figures.mark(loss, 0.1, "solved")
        loss.set(yscale="log", ylabel="test loss / baseline", title=f"{figures.named(model)}: what is learnt")
        whole = runs[runs["ways"] == "both ways"]
        for name, way in (("carousel only", "carousel"), ("gates only", "gates")):
            for when, fill in (("init", "none"), ("end", "full")):
                curves = whole.assign(share=carried(tables, whole, way, when))
                curves = curves.pivot_table(index="seq_len", columns="seed", values="share")
                if curves.empty:
                    continue
                look = LOOKS[name] | {
                    "linestyle": ":" if when == "init" else LOOKS[name]["linestyle"],
                    "fillstyle": fill,
                }
                label = f"{way}, {'at initialisation' if when == 'init' else 'after training'}"
                figures.band(share, label, curves, look, None)
        share.set(
            title=f"{figures.named(model)}: what each way carries by itself", ylabel="log10 of its share of ∂L/∂c"
        )
        share.axhline(0, color="0.5", linewidth=0.8)
        for ax in (loss, share):
            ax.set_xscale("log")
            ax.set_xticks(lengths, lengths)
            ax.minorticks_off()
            ax.grid(alpha=0.25)
    for ax, columns in ((grid[-1, 0], 3), (grid[-1, 1], 2)):
        ax.set_xlabel("sequence length T")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, frameon=False, fontsize=9)
    figure.suptitle(
        f"Which way back the gradient needs (mean and range of {results['seed'].nunique()} seeds; right: with both "
        "ways open, over half the sequence)",
        fontsize=11,
    )
    return figure


def findings(tables: Tables) -> list[str]:
    results = settings(tables)
    lengths = sorted(results["seq_len"].unique())
    rows = []
    for (setting, name), runs in results.groupby(["setting", "ways"], sort=False):
        solved = [runs.loc[runs["seq_len"] == length, "solved"] for length in lengths]
        rows.append([f"`{setting}`, {name}", *(f"{s.sum()}/{len(s)}" for s in solved)])
    said = [markdown_table(["seeds that solve it", *lengths], rows)]
    for setting, runs in results[results["ways"] == "both ways"].groupby("setting"):
        longest = runs[runs["seq_len"] == max(lengths)]
        shares = {
            way: [10 ** carried(tables, longest, way, when).median() for when in ("init", "end")]
            for way in ("carousel", "gates")
        }
        parts = [
            f"{way} {init:.1e} of the whole gradient's norm at initialisation and {end:.1e} after training"
            for way, (init, end) in shares.items()
            if init == init and end == end
        ]
        if parts:
            said.append(f"`{setting}`, over half of {max(lengths)} steps, by itself (medians): {'; '.join(parts)}.")
    return said
