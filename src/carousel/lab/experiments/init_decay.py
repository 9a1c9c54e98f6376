"""The gradient against the lag at initialisation: what is measured, beside what theory says."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...gradients import memory_length
from .. import figures
from ..records import Tables, innermost, markdown_table, names, value
from ..style import named, styles

LAGS = (10, 20, 40, 100, 200)
"""Those at which measurement and prediction are compared in words."""


def curves(flow: pd.DataFrame, state: str | None = None) -> dict[str, pd.DataFrame]:
    """For each label the curve of one state of the last layer, by default of c or else h, relative to lag 0, as decimal
    logarithms: the root mean square over runs, measured and predicted, and the least and largest of the measured."""
    flow = flow[flow["step"] == 0].assign(predicted=flow.get("predicted"))
    found = {}
    for model, runs in innermost(flow, state).groupby("label"):
        measured, predicted = (
            runs.pivot_table(index="lag", columns="run", values=kind, dropna=False).astype(float)
            for kind in ("log10_norm", "predicted")
        )
        measured = measured - measured.loc[0]
        found[model] = pd.DataFrame(
            {
                "measured": rms(measured),
                "predicted": rms(predicted),
                "least": measured.min(axis=1),
                "largest": measured.max(axis=1),
            }
        )
    return found


def rms(table: pd.DataFrame) -> pd.Series:
    """Over the columns, of decimal logarithms; relative to the largest, for 10**-200 squared is no number."""
    top = table.max(axis=1)
    return top + np.log10((10 ** (2 * table.sub(top, axis=0))).mean(axis=1)) / 2


def figure(tables: Tables) -> Figure:
    flow = tables.gradient_flow
    style = styles(flow["label"].unique())
    last = flow["lag"].max()
    states = [state for state in ("c", "h") if curves(flow, state)] or [None]
    figure = Figure(figsize=(10, 3.6 * len(states) + 0.6), layout="constrained")
    grid = figure.subplots(len(states), 2, width_ratios=(1, 1.25), squeeze=False)
    for (near, far), state in zip(grid, states, strict=True):
        for k, (label, curve) in enumerate(curves(flow, state).items()):
            color, line, marker = (style[label][key] for key in ("color", "linestyle", "marker"))
            for ax, every in ((near, 2), (far, 12)):
                ax.plot(curve["predicted"], color=color, linestyle=line, linewidth=1.2)
                dots = curve["measured"][k % every :: every]
                look = {"linestyle": "", "marker": marker, "markersize": 5.5, "fillstyle": "none"}
                ax.plot(dots, color=color, label=named(label), **look)
                ax.fill_between(curve.index, curve["least"], curve["largest"], color=color, alpha=0.2, lw=0)
        for ax, lags, floor in ((near, min(20, last), -5), (far, last, figures.FLOOR)):
            ax.set(xlim=(-0.02 * lags, lags * 1.02), ylim=(floor, 0.3))
            ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            figures.decades(ax)
            ax.grid(alpha=0.25)
        near.set_ylabel(f"∂L/∂{state or 'state'}: norm relative to lag 0")
    for ax in grid[-1]:
        ax.set_xlabel("lag k (time steps back from the loss)")
    units, seeds = tables.results["config.model.hidden_size"].map(value).unique(), tables.results["seed"].nunique()
    figure.suptitle(
        f"The gradient at initialisation ({names(units)} units): predicted from the initialisation alone (lines) and\n"
        f"measured (markers: root mean square over {seeds} seeds; shaded: range)",
        fontsize=11,
    )
    figures.legend(figure, grid.flat)
    return figure


def findings(tables: Tables) -> list[str]:
    flow = tables.gradient_flow
    models = curves(flow)
    lags = [lag for lag in LAGS if lag <= flow["lag"].max()]
    rows = []
    for model, curve in models.items():
        kinds = [curve[kind] for kind in ("measured", "predicted") if curve[kind].notna().all()]
        row = [" / ".join(f"{10 ** kind[lag]:.2e}" for kind in kinds) for lag in lags]
        row.append(" / ".join(str(memory_length(torch.tensor(kind.to_numpy()))) for kind in kinds))
        rows.append([f"`{model}`", *row])
    said = [markdown_table(["measured / predicted", *(f"lag {lag}" for lag in lags), "memory length"], rows)]
    ratios = {model: 10 ** (curve["measured"] - curve["predicted"]) for model, curve in models.items()}
    ratios = {model: ratio for model, ratio in ratios.items() if ratio.notna().all()}
    if ratios:
        worst = []
        for lag in lags:
            model = max(ratios, key=lambda model: abs(np.log(ratios[model][lag])))
            worst.append(f"{ratios[model][lag]:.2f} (`{model}`) at lag {lag}")
        said.append(
            "Nothing is fitted. What is measured, over what is predicted, lies furthest from 1 as follows: "
            f"{names(worst)}."
        )
    for state in ("c", "h"):
        lstm, rnn = curves(flow, state).get("lstm"), curves(flow, "h").get("rnn")
        if lstm is None or rnn is None:
            continue
        below = (lstm["measured"] < rnn["measured"])[1:]
        if below.iloc[0]:
            until = below.index[-1] if below.all() else below.idxmin() - 1
            said.append(f"torch's default `lstm` keeps less of ∂L/∂{state} than `rnn` of ∂L/∂h over lags 1 to {until}.")
    return said
