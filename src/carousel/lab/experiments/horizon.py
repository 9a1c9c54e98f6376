"""How far back the gradient reaches in the course of training, above the loss."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..records import Tables, innermost, markdown_table, relative
from ..style import named, styles

BROKEN = 0.5
"""The share of the baseline's loss under which the loss has left its plateau."""
REACHED = -2.0
"""The decimal logarithm, relative to lag 0, above which a lag counts as within the horizon."""


def horizons(flow: pd.DataFrame) -> pd.DataFrame:
    """For each run and training step the largest lag within the horizon: columns label, run, step, lag."""
    seen = relative(innermost(flow))
    return seen[seen["log10_norm"] >= REACHED].groupby(["label", "run", "step"], as_index=False)["lag"].max()


def figure(tables: Tables) -> Figure:
    results, flow, losses, _ = tables
    models = sorted(flow["label"].unique())
    style = styles(models)
    figure = Figure(figsize=(2.9 * len(models) + 0.8, 5.2), layout="constrained")
    grid = figure.subplots(2, len(models), sharex=True, sharey="row", height_ratios=(1.5, 1), squeeze=False)
    seen, reach = relative(innermost(flow)), horizons(flow)
    baseline = results["baseline_loss"].iloc[0]
    images = []
    for (top, below), model in zip(grid.T, models, strict=True):
        table = seen[seen["label"] == model].pivot_table(index="lag", columns="step", values="log10_norm").clip(-6, 1)
        images += [top.pcolormesh(table.columns, table.index, table, cmap="cividis", vmin=-6, vmax=1, rasterized=True)]
        per_run = reach[reach["label"] == model].pivot_table(index="step", columns="run", values="lag")
        top.plot(per_run.median(axis=1), color="white", linewidth=2.6)
        top.plot(per_run.median(axis=1), color="black", linewidth=1.2)
        top.axhline(flow["lag"].max() / 2, color="white", linestyle=":", linewidth=1)
        top.set_title(named(model), fontsize=10)
        curves = losses[losses["label"] == model].dropna(subset="val/loss")
        curves = curves.pivot_table(index="step", columns="run", values="val/loss") / baseline
        figures.threads(below, model, curves, style[model], 0)
        below.axhline(1, color="0.5", linewidth=0.8)
        below.axhline(BROKEN, color="0.5", linewidth=0.8, linestyle=":")
        below.set(yscale="log", xlabel="training step")
        below.grid(alpha=0.25)
    grid[0, 0].set_ylabel("lag k (steps back from the loss)")
    grid[1, 0].set_ylabel("validation loss / baseline")
    figure.colorbar(images[-1], ax=grid[0], label="log10 of the gradient's norm,\nrelative to lag 0", pad=0.01)
    seeds = results["seed"].nunique()
    figure.suptitle(
        f"How far back the gradient reaches while training (mean of {seeds} seeds; line: the memory length, where 1% "
        "of lag 0 is left, median),\n"
        "and the loss of each seed; dotted: half of the sequence, half of the baseline's loss",
        fontsize=11,
    )
    return figure


def findings(tables: Tables) -> list[str]:
    results, flow, losses, _ = tables
    half, baseline = flow["lag"].max() / 2, results["baseline_loss"].iloc[0]
    reach = horizons(flow)
    rows = []
    for run in results.itertuples():
        lags = reach[reach["run"] == run.run].set_index("step")["lag"]
        loss = losses[losses["run"] == run.run].dropna(subset="val/loss").set_index("step")["val/loss"]
        broken = first(loss[loss < BROKEN * baseline])
        rows.append({"model": run.label, "seed": run.seed, "reached": first(lags[lags > half]), "broken": broken})
    table = pd.DataFrame(rows)
    lines = []
    for model, runs in table.groupby("model"):
        steps = [", ".join("never" if np.isnan(s) else f"{s:.0f}" for s in runs[key]) for key in ("reached", "broken")]
        lines.append([f"`{model}` (seeds {', '.join(map(str, runs['seed']))})", *steps])
    heads = ["training step", "the horizon is over half the sequence", "the loss is under half of the baseline's"]
    every = np.diff(sorted(flow["step"].unique())).min()
    said = [
        markdown_table(heads, lines),
        f"Both are measured every {every} steps; what follows are medians over seeds.",
    ]
    for model, runs in table.groupby("model"):
        learnt = runs.dropna(subset="broken")
        if learnt.empty:
            said.append(f"`{model}` never leaves the plateau{memory(reach, model, half)}.")
        elif (learnt["reached"] == 0).all():
            said.append(f"The horizon of `{model}` reaches over half the sequence from the start.")
        else:
            lead = (learnt["broken"] - learnt["reached"]).median()
            side = "before" if lead > 0 else "after"
            when = "just when" if abs(lead) <= every else f"{abs(lead):.0f} steps {side}"
            said.append(f"The horizon of `{model}` gets over half the sequence {when} the loss leaves its plateau.")
    return said


def first(series: pd.Series) -> float:
    """The first training step that there is, or nan."""
    return float(series.index[0]) if len(series) else np.nan


def memory(reach: pd.DataFrame, model: str, half: float) -> str:
    """How often a model that learns nothing has a horizon over half the sequence all the same."""
    lags = reach.loc[reach["label"] == model, "lag"]
    return f"; its horizon is over half the sequence in {(lags > half).mean():.0%} of the measurements"
