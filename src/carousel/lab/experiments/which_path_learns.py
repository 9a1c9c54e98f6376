"""What is learnt with the gradient stopped on one backward path, beside what each path carries."""

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..records import BUDGET, Tables, innermost, labels, markdown_table, measured, steps_to_solve
from ..style import named

LOOKS = {
    "both paths": {"color": "#000000", "linestyle": "-", "marker": "o"},
    "cell-state path only": {"color": "#0072B2", "linestyle": "--", "marker": "s"},
    "gate path only": {"color": "#D55E00", "linestyle": "-.", "marker": "^"},
    "neither": {"color": "#999999", "linestyle": ":", "marker": "x"},
    "h-detach": {"color": "#009E73", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "D"},
}

PATHS = {"carousel": "cell-state", "gates": "gate"}
"""The measure's names for the paths, in words."""


def open_paths(results: pd.DataFrame) -> pd.Series:
    """The backward paths that each run left open to the gradient."""
    gates, carousel = (results[f"config.model.detach.{name}"] for name in ("gates", "carousel"))
    said = pd.Series("both paths", results.index)
    said[(gates > 0) & (gates < 1)] = "h-detach"
    said[gates == 1] = "cell-state path only"
    said[carousel == 1] = "gate path only"
    said[(gates == 1) & (carousel == 1)] = "neither"
    return said


def settings(tables: Tables) -> pd.DataFrame:
    """The results, with what was left open in `paths`, what else varies in `setting`, and in `steps` the training steps
    until solved, or all of them."""
    results = tables.results
    return results.assign(
        paths=open_paths(results),
        setting=labels(results, without=("config.model.detach.gates", "config.model.detach.carousel")),
        steps=results["steps_to_solve"].astype(float).fillna(results[BUDGET]),
    )


def carried(tables: Tables, runs: pd.DataFrame, path: str, when: str) -> pd.Series:
    """For each of the runs what a path carries by itself in the last layer, as log10 of its share of the whole."""
    rows = innermost(measured(tables.measurements, f"paths/{path}", when))
    return runs["run"].map(rows.set_index("run")["value"]).astype(float)


def figure(tables: Tables) -> Figure:
    results = settings(tables)
    models = sorted(results["setting"].unique())
    figure = Figure(figsize=(10, 3.1 * len(models) + 0.7), layout="constrained")
    grid = figure.subplots(len(models), 2, squeeze=False, sharex=True, width_ratios=(1.15, 1))
    lengths = sorted(results["seq_len"].unique())
    for (steps, share), model in zip(grid, models, strict=True):
        runs = results[results["setting"] == model]
        for k, (name, look) in enumerate(LOOKS.items()):
            curves = runs[runs["paths"] == name].pivot_table(index="seq_len", columns="seed", values="steps")
            middle = curves.median(axis=1)
            reach = [middle - curves.min(axis=1), curves.max(axis=1) - middle]
            beside = curves.index * 1.035 ** (k - 2)  # or the bars would cover one another
            steps.errorbar(beside, middle, yerr=reach, label=name, linewidth=1.4, elinewidth=0.9, markersize=5, **look)
        figures.mark(steps, runs[BUDGET].max(), "not\nsolved")
        steps.set(yscale="log", ylabel="training steps until solved", title=f"{named(model)}: how soon it learns")
        budget = int(runs[BUDGET].max())
        steps.set_yticks([budget // 2**k for k in range(4)], [budget // 2**k for k in range(4)])
        steps.set_ylim(runs["steps"].min() * 0.8, budget * 1.15)
        whole = runs[runs["paths"] == "both paths"]
        for name, path in (("cell-state path only", "carousel"), ("gate path only", "gates")):
            for when, fill in (("init", "none"), ("end", "full")):
                curves = whole.assign(share=carried(tables, whole, path, when))
                curves = curves.pivot_table(index="seq_len", columns="seed", values="share")
                if curves.empty:
                    continue
                look = LOOKS[name] | {
                    "linestyle": ":" if when == "init" else LOOKS[name]["linestyle"],
                    "fillstyle": fill,
                }
                label = f"{PATHS[path]}, {'at initialisation' if when == 'init' else 'after training'}"
                figures.band(share, label, curves, look, None)
        share.set(title=f"{named(model)}: what each path carries by itself", ylabel="log10 of its share of ∂L/∂c")
        share.axhline(0, color="0.5", linewidth=0.8)
        for ax in (steps, share):
            ax.set_xscale("log")
            ax.set_xticks(lengths, lengths)
            ax.minorticks_off()
            ax.grid(alpha=0.25)
    for ax, columns in ((grid[-1, 0], 3), (grid[-1, 1], 2)):
        ax.set_xlabel("sequence length T")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, frameon=False, fontsize=9)
    figure.suptitle(
        "Which backward path the gradient needs\n"
        f"({results['seed'].nunique()} seeds; left: median and range; right: mean and range, with both paths open, "
        "over half the sequence)",
        fontsize=11,
    )
    return figure


def findings(tables: Tables) -> list[str]:
    results = settings(tables)
    lengths = sorted(results["seq_len"].unique())
    rows = []
    for (setting, name), runs in results.groupby(["setting", "paths"], sort=False):
        cells = [runs[runs["seq_len"] == length] for length in lengths]
        cells = [f"{c['solved'].sum()}/{len(c)}; {steps_to_solve(c)}" if len(c) else "" for c in cells]
        rows.append([f"`{setting}`, {name}", *cells])
    heads = ["seeds that solve it; training steps until then (median)", *(f"T = {length}" for length in lengths)]
    said = [markdown_table(heads, rows)]
    for setting, runs in results[results["paths"] == "both paths"].groupby("setting"):
        longest = runs[runs["seq_len"] == max(lengths)]
        shares = {
            path: [10 ** carried(tables, longest, path, when).median() for when in ("init", "end")] for path in PATHS
        }
        parts = [
            f"the {PATHS[path]} path {init:.1e} of the whole gradient's norm at initialisation and {end:.1e} after "
            "training"
            for path, (init, end) in shares.items()
            if init == init and end == end
        ]
        if parts:
            said.append(f"`{setting}`, over half of {max(lengths)} steps, by itself (medians): {'; '.join(parts)}.")
    return said
