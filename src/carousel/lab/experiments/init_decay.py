"""The gradient against the lag at initialisation: what is measured, beside what theory says."""

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ...gradients import memory_length
from .. import figures
from ..results import names

LAGS = (10, 20, 40)
"""Those at which measurement and prediction are compared in words."""


def relative(flow: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each model its innermost state's curve, of c or else h: log10 of the norm relative to lag 0, indexed by lag,
    columns (kind, run); the kinds are "measured" and "predicted"."""
    flow = flow[flow["step"] == 0].rename(columns={"log10_norm": "measured"})
    found = {}
    for model, runs in flow.groupby("model"):
        inner = runs[runs["state"] == ("c" if "c" in set(runs["state"]) else "h")]
        table = inner.pivot_table(index="lag", columns="run", values=["measured", "predicted"])
        found[model] = table - table.loc[0]
    return found


def figure(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    style = figures.styles(flow["model"].unique())
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    near, far = figure.subplots(1, 2, width_ratios=(1, 1.25))
    last = flow["lag"].max()
    for model, curves in relative(flow).items():
        color, line, marker = (style[model][key] for key in ("color", "linestyle", "marker"))
        measured = curves["measured"]
        for ax, every in ((near, 2), (far, 10)):
            ax.plot(curves["predicted"].mean(axis=1), color=color, linestyle=line, linewidth=1.2)
            dots = measured.mean(axis=1)[::every]
            ax.plot(dots, color=color, linestyle="", marker=marker, markersize=5.5, fillstyle="none", label=model)
            ax.fill_between(curves.index, measured.min(axis=1), measured.max(axis=1), color=color, alpha=0.2, lw=0)
    for ax, lags, floor in ((near, min(20, last), -5), (far, last, figures.FLOOR)):
        ax.set(xlim=(-0.02 * lags, lags * 1.02), ylim=(floor, 0.3), xlabel="lag k (time steps back from the loss)")
        ax.yaxis.set_major_formatter(FuncFormatter(figures.power_of_ten))
        ax.grid(alpha=0.25)
    near.set_ylabel("∂L/∂c of an LSTM, ∂L/∂h else: norm relative to lag 0")
    units, seeds = results["config.model.hidden_size"].iloc[0], results["seed"].nunique()
    figure.suptitle(
        f"The gradient at initialisation ({units:.0f} units): predicted from the initialisation alone (lines) and\n"
        f"measured (markers; mean and range over {seeds} seeds)",
        fontsize=11,
    )
    figures.legend(figure, near)
    return figure


def rms(curves: pd.DataFrame, lag: int) -> float:
    """Over the runs, at one lag."""
    return float((10 ** (2 * curves.loc[lag])).mean() ** 0.5)


def findings(results: pd.DataFrame, flow: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    models = relative(flow)
    lags = [lag for lag in LAGS if lag <= flow["lag"].max()]
    heads = [*(f"lag {lag}" for lag in lags), "memory length"]
    lines = ["| measured / predicted | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for model, curves in models.items():
        kinds = curves["measured"], curves["predicted"]
        cells = [" / ".join(f"{rms(kind, lag):.2e}" for kind in kinds) for lag in lags]
        cells.append(" / ".join(str(memory_length(torch.tensor(kind.mean(axis=1).to_numpy()))) for kind in kinds))
        lines.append(f"| `{model}` | " + " | ".join(cells) + " |")
    said = ["\n".join(lines)]
    gaps = {
        lag: {
            model: abs(rms(curves["measured"], lag) / rms(curves["predicted"], lag) - 1)
            for model, curves in models.items()
        }
        for lag in lags
    }
    worst = {lag: max(gap, key=gap.get) for lag, gap in gaps.items()}
    said.append(
        "Nothing is fitted. The root mean square over seeds is off from the prediction by at most "
        f"{names(f'{gaps[lag][model]:.0%} (`{model}`) at lag {lag}' for lag, model in worst.items())}."
    )
    if {"rnn", "lstm"} <= models.keys():
        for state in ("c", "h"):
            lstm, rnn = (curve(flow, *which) for which in (("lstm", state), ("rnn", "h")))
            if (lstm < rnn)[1]:
                until = int((lstm < rnn)[1:].idxmin()) - 1 if (lstm >= rnn)[1:].any() else lstm.index[-1]
                said.append(
                    f"torch's default `lstm` keeps less of ∂L/∂{state} than `rnn` of ∂L/∂h over lags 1 to {until}."
                )
    return said


def curve(flow: pd.DataFrame, model: str, state: str) -> pd.Series:
    """The mean over seeds of one state's curve at initialisation, relative to lag 0."""
    rows = flow[(flow["step"] == 0) & (flow["model"] == model) & (flow["state"] == state)]
    mean = rows.groupby("lag")["log10_norm"].mean()
    return mean - mean.loc[0]
