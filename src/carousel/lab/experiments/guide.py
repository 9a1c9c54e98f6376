"""The rank of each cell, averaged over the tasks, and which ranks differ by more than chance."""

import pandas as pd
from matplotlib.figure import Figure

from ..options import OptionError
from ..records import Tables, markdown_table, names
from ..style import named

NEAR = 0.95
"""The share of what a run gains over the baseline's validation loss after which it counts as having got there."""
SIMPLE, NEW = "rnn", ("min_gru", "slstm", "indrnn", "janet_chrono", "lem")
LEVEL = 0.05
"""The level of significance."""


def scores(tables: Tables) -> pd.DataFrame:
    """A row a run: task, model, seed, test/loss, `steps` and `seconds` until it got near its best, `rate`."""
    results = tables.results
    columns = ["task", "model", "seed", "parameters", "test/loss", "baseline_loss"]
    table = results[columns].astype({"test/loss": float, "baseline_loss": float})
    curves = tables.loss_curves.dropna(subset="val/loss").sort_values("step")
    base = results.set_index("run")["baseline_loss"].astype(float)
    steps = {}
    for run, curve in curves.groupby("run"):
        least, begin = curve["val/loss"].min(), max(base[run], curve["val/loss"].iloc[0])
        there = curve["val/loss"] <= begin - NEAR * (begin - least)
        steps[run] = curve["step"][there].min()
    table["steps"] = results["run"].map(steps)
    per_step = results["wall_time_s"].astype(float) / results["steps"].astype(float)
    return table.assign(seconds=table["steps"] * per_step, step=1000 * per_step)


def ranks(tables: Tables) -> pd.DataFrame:
    """(tasks, models): the place of each model's median test loss among those of its task, the least first; of those
    tasks that all models have done."""
    losses = scores(tables).pivot_table(index="task", columns="model", values="test/loss", aggfunc="median")
    return losses.dropna().rank(axis=1)


def differ(a: pd.Series, b: pd.Series) -> int:
    """Which of two is better: 1 or -1 where all seeds of one are better than all of the other, and else 0."""
    return int(a.max() < b.min()) - int(b.max() < a.min())


def figure(tables: Tables) -> Figure:
    """A critical-difference diagram (Demšar 2006, Nemenyi's test).

    Raises:
        OptionError: the extra `guide` is not installed.
    """
    try:
        from scikit_posthocs import critical_difference_diagram, posthoc_nemenyi_friedman
    except ModuleNotFoundError as error:
        line = 'pip install "torch-carousel[guide]", or in a checkout -e ".[guide]"'
        raise OptionError(f"a critical-difference diagram needs {error.name}: {line}") from error
    places = ranks(tables).rename(columns=named)
    drawn = Figure(figsize=(7.5, 0.22 * places.shape[1] + 1.3), layout="constrained")
    labels = {"label_fmt_left": "{label} ({rank:.1f})", "label_fmt_right": "({rank:.1f}) {label}"}
    p = posthoc_nemenyi_friedman(places)
    critical_difference_diagram(places.mean(), p, alpha=LEVEL, ax=drawn.subplots(), **labels)
    drawn.suptitle(f"Mean rank over {len(places)} tasks (1 is best); what a bar joins does not differ (p > {LEVEL})")
    return drawn


def findings(tables: Tables) -> list[str]:
    table = scores(tables)
    parts = []
    for task, runs in table.groupby("task"):
        base = tables.results[tables.results["task"] == task]["baseline_loss"].astype(float).median()
        parts.append(markdown_table(
            [f"{task} (the baseline's loss is {base:.3g})", "parameters", "rate", "test loss", "beside the best",
             f"steps to {NEAR:.0%}", "seconds to it", "ms a step"],
            _rows(runs, tables.results),
        ))  # fmt: skip
    places = ranks(tables).mean().sort_values()
    parts += [
        f"Of {table['seed'].nunique()} seeds, the median and from the least to the largest; two cells differ where all "
        "seeds of one are better than all of the other. Steps and seconds are those to "
        f"{NEAR:.0%} of what a run gains over the baseline, at best.",
        f"Mean rank over {table['task'].nunique()} tasks: "
        f"{names(f'`{model}` {place:.1f}' for model, place in places.items())}.",
        *_answers(table),
    ]
    return parts


def _rows(runs: pd.DataFrame, results: pd.DataFrame) -> list[list[str]]:
    rates = results[results["task"] == runs["task"].iloc[0]].groupby("model")["config.optimizer.lr"].first()
    losses = {model: own["test/loss"] for model, own in runs.groupby("model")}
    order = sorted(losses, key=lambda model: losses[model].median())
    rows = []
    for model in order:
        own, loss = runs[runs["model"] == model], losses[model]
        worse = differ(losses[order[0]], loss)
        rows.append([
            f"`{model}`", f"{own['parameters'].iloc[0]:,.0f}", f"{rates[model]:g}",
            f"{loss.median():.4g} ({loss.min():.4g} to {loss.max():.4g})",
            "worse" if worse else "no difference" if model != order[0] else "best", f"{own['steps'].median():.0f}",
            f"{own['seconds'].median():.1f}", f"{own['step'].median():.1f}",
        ])  # fmt: skip
    return rows


def _answers(table: pd.DataFrame) -> list[str]:
    """The questions that people bring, each answered by the tasks on which all seeds say the same."""
    losses = {pair: own["test/loss"] for pair, own in table.groupby(["task", "model"])}
    baselines = table.groupby("task")["baseline_loss"].min()
    models, tasks = set(table["model"]), sorted(set(table["task"]))

    def compared(a: str, b: str) -> str:
        both = [task for task in tasks if (task, a) in losses and (task, b) in losses]
        signs = {task: differ(losses[task, a], losses[task, b]) for task in both}
        won = {model: [task for task in both if signs[task] == sign] for model, sign in ((a, 1), (b, -1))}
        said = [f"`{model}` is better on {names(some)}" for model, some in won.items() if some]
        same = [task for task in both if not signs[task]]
        return "; ".join(said + ([f"no difference on {names(same)}"] if same else []))

    said = []
    if {"lstm", "gru"} <= models:
        said.append(f"LSTM or GRU: {compared('lstm', 'gru')}.")
    if SIMPLE in models:
        own = {task: losses[task, SIMPLE] for task in tasks if (task, SIMPLE) in losses}
        beaten = {task for (task, _), other in losses.items() if task in own and differ(other, own[task]) == 1}
        enough = [task for task in own if task not in beaten and own[task].max() < baselines[task]]
        said.append(
            "A simple RNN is enough, better than the baseline and no cell better than it in all seeds, on "
            f"{names(enough) if enough else 'none'}."
        )
    if "lstm" in models:
        said += [f"`{new}` or LSTM: {compared(new, 'lstm')}." for new in NEW if new in models]
    if {"lstm", SIMPLE} <= models:
        median = table.pivot_table(index="task", columns="model", values="step", aggfunc="median")
        costs = (median["lstm"] / median[SIMPLE]).dropna()
        said.append(f"A step of the LSTM takes {costs.min():.2f} to {costs.max():.2f} times as long as one of the RNN.")
    return ["\n".join(f"- {line}" for line in said)]
