"""How far back the gradient reaches in the course of training, above the loss."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..results import innermost, markdown_table

BROKEN = 0.5
"""The share of the chance level under which the loss has left its plateau."""
REACHED = -2.0
"""The decimal logarithm, relative to lag 0, above which a lag counts as within the horizon."""


def relative(flow: pd.DataFrame) -> pd.DataFrame:
    """The innermost state's curves: columns as `flow`, log10_norm relative to lag 0."""
    flow = innermost(flow).sort_values(["run", "step", "lag"])
    first = flow.groupby(["run", "step"])["log10_norm"].transform("first")
    return flow.assign(log10_norm=flow["log10_norm"] - first)


def horizons(flow: pd.DataFrame) -> pd.DataFrame:
    """For each run and training step the largest lag within the horizon: columns model, run, step, lag."""
    seen = relative(flow)
    return seen[seen["log10_norm"] >= REACHED].groupby(["model", "run", "step"], as_index=False)["lag"].max()


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    models = sorted(flow["model"].unique())
    style = figures.styles(models)
    figure = Figure(figsize=(2.9 * len(models) + 0.8, 5.2), layout="constrained")
    grid = figure.subplots(2, len(models), sharex=True, sharey="row", height_ratios=(1.5, 1), squeeze=False)
    seen, reach = relative(flow), horizons(flow)
    chance = results["chance"].iloc[0]
    for (top, below), model in zip(grid.T, models, strict=True):
        table = seen[seen["model"] == model].pivot_table(index="lag", columns="step", values="log10_norm").clip(-6, 1)
        image = top.pcolormesh(table.columns, table.index, table, cmap="cividis", vmin=-6, vmax=1, rasterized=True)
        per_run = reach[reach["model"] == model].pivot_table(index="step", columns="run", values="lag")
        top.plot(per_run.median(axis=1), color="white", linewidth=2.6)
        top.plot(per_run.median(axis=1), color="black", linewidth=1.2)
        top.axhline(flow["lag"].max() / 2, color="white", linestyle=":", linewidth=1)
        top.set_title(model, fontsize=10)
        curves = losses[losses["model"] == model].dropna(subset="val/loss")
        curves = curves.pivot_table(index="step", columns="run", values="val/loss") / chance
        figures.band(below, model, curves, style[model], 0.2)
        below.axhline(1, color="0.5", linewidth=0.8)
        below.axhline(BROKEN, color="0.5", linewidth=0.8, linestyle=":")
        below.set(yscale="log", xlabel="training step")
        below.grid(alpha=0.25)
    grid[0, 0].set_ylabel("lag k (steps back from the loss)")
    grid[1, 0].set_ylabel("validation loss / chance")
    figure.colorbar(image, ax=grid[0], label="log10 of the gradient's norm,\nrelative to lag 0", pad=0.01)
    seeds = results["seed"].nunique()
    figure.suptitle(
        f"How far back the gradient reaches while training (mean of {seeds} seeds; line: 1% of lag 0, median), and the "
        "loss (mean, range)",
        fontsize=11,
    )
    return figure


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    half, chance = flow["lag"].max() / 2, results["chance"].iloc[0]
    reach = horizons(flow)
    rows = []
    for run in results.itertuples():
        lags = reach[reach["run"] == run.run].set_index("step")["lag"]
        loss = losses[losses["run"] == run.run].dropna(subset="val/loss").set_index("step")["val/loss"]
        broken = first(loss[loss < BROKEN * chance]) + 1  # Lightning counts the step that a validation follows from 0
        rows.append({"model": run.model, "seed": run.seed, "reached": first(lags[lags > half]), "broken": broken})
    table = pd.DataFrame(rows)
    lines = []
    for model, runs in table.groupby("model"):
        steps = [", ".join("never" if np.isnan(s) else f"{s:.0f}" for s in runs[key]) for key in ("reached", "broken")]
        lines.append([f"`{model}` (seeds {', '.join(map(str, runs['seed']))})", *steps])
    heads = ["training step", "the horizon is over half the sequence", "the loss is under half of chance"]
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
    lags = reach.loc[reach["model"] == model, "lag"]
    return f"; its horizon is over half the sequence in {(lags > half).mean():.0%} of the measurements"
