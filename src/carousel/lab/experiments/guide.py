"""The rank of each cell, averaged over the tasks, and which ranks differ by more than chance."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import scores as scores_of
from ..records import Tables, markdown_table, memory_lengths, names
from ..reproduce import capacity
from ..style import named
from .data import SOLVED

NEAR = 0.95
"""The share of what a run gains over the baseline's validation loss after which it counts as having got there."""
SIMPLE, NEW = "rnn", ("min_gru", "slstm", "indrnn", "janet_chrono", "lem")
THINGS = "config.task.things"
"""Of task=s3: the word problem of two things is parity."""
BITS = "bits by heart"
"""What the task of Collins et al. is called here."""
LEVEL = 0.05
"""The level of significance."""
SHUFFLES = 10_000
"""Orders of the cells that a correlation is compared with."""


def scores(tables: Tables) -> pd.DataFrame:
    """A row a run: task, model, seed, parameters, rate, loss (on test data); `baseline`, the least of what needs no
    training, on test data too; `judged`, the loss, but no less than that at which the task is solved; `reach`, the
    memory length at initialisation; `steps` until it got near its best; and `all`, whether all seeds of its model have
    come to an end, and none has diverged."""
    results = tables.results
    loss, baseline = (results[name].astype(float) for name in ("test/loss", "baseline_loss"))
    untrained = [c for c in results if c.startswith(scores_of.BASELINE) and c.endswith(".test/loss")]
    parity = results.get(THINGS, pd.Series(index=results.index, dtype=float)) == 2
    table = results[["model", "seed", "parameters"]].assign(
        task=results["task"].mask(parity, "running parity").replace(capacity.RandomBits.__name__, BITS),
        rate=results["config.optimizer.lr"],
        loss=loss,
        judged=loss.clip(lower=(SOLVED * baseline).where(results["solved"].notna(), 0)),
        baseline=results[untrained].astype(float).min(axis=1).fillna(baseline),
        reach=memory_lengths(tables, "init"),
    )
    curves = tables.loss_curves.dropna(subset="val/loss").sort_values("step")
    base = results.set_index("run")["baseline_loss"].astype(float)
    steps = {}
    for run, curve in curves.groupby("run"):
        least, begin = curve["val/loss"].min(), max(base[run], curve["val/loss"].iloc[0])
        there = curve["val/loss"] <= begin - NEAR * (begin - least)
        steps[run] = curve["step"][there].min()
    table["steps"] = results["run"].map(steps)
    there = table.groupby(["task", "model"])["seed"].transform("nunique") == table["seed"].nunique()
    return table.assign(all=there)


def ranks(tables: Tables) -> pd.DataFrame:
    """(tasks, models): the place of each model's median loss, as it is judged, among those of its task, the least
    first; of those tasks that all seeds of all models have done."""
    table = scores(tables)
    losses = table[table["all"]].pivot_table(index="task", columns="model", values="judged", aggfunc="median")
    return losses.reindex(columns=sorted(set(table["model"]))).dropna().rank(axis=1)


def correlation(a: pd.Series, b: pd.Series) -> tuple[float, float]:
    """Spearman's, and how often it is as far from zero if the numbers of one are shuffled; nan where all are alike."""
    a, b = ((rank - rank.mean()) / rank.std() for rank in (a.rank(), b.rank()))
    found = (a * b).sum() / (len(a) - 1)
    shuffled = np.random.default_rng(0).permuted(np.tile(b, (SHUFFLES, 1)), axis=1) @ a / (len(a) - 1)
    return found, (abs(shuffled) >= abs(found) - 1e-9).mean()


def differ(a: pd.Series, b: pd.Series) -> int:
    """Which of two is better: 1 or -1 where all seeds of one are better than all of the other, and else 0."""
    return int(a.max() < b.min()) - int(b.max() < a.min())


def figure(tables: Tables) -> Figure:
    """A critical-difference diagram (Demšar 2006, Nemenyi's test).

    Raises:
        ModuleNotFoundError: the extra `guide` is not installed.
        ValueError: no task is done.
    """
    try:
        from scikit_posthocs import critical_difference_diagram, posthoc_nemenyi_friedman
    except ModuleNotFoundError as error:  # no reason for a report to fail
        line = 'pip install "torch-carousel[guide]", or in a checkout -e ".[guide]"'
        raise ModuleNotFoundError(f"a critical-difference diagram needs {error.name}: {line}") from error
    places = ranks(tables).rename(columns=named)
    if places.empty:
        raise ValueError("there is no task yet of which all runs are done")
    drawn = Figure(figsize=(7.5, 0.22 * places.shape[1] + 1.3), layout="constrained")
    labels = {"label_fmt_left": "{label} ({rank:.1f})", "label_fmt_right": "({rank:.1f}) {label}"}
    p = posthoc_nemenyi_friedman(places)
    critical_difference_diagram(places.mean(), p, alpha=LEVEL, ax=drawn.subplots(), **labels)
    drawn.suptitle(f"Mean rank over {len(places)} tasks (1 is best); what a bar joins does not differ (p > {LEVEL})")
    return drawn


def findings(tables: Tables) -> list[str]:
    table, places = scores(tables), ranks(tables)
    parts = []
    for task, runs in table.groupby("task"):
        heads = [
            f"{task} (without training at best {runs['baseline'].median():.3g})",
            "parameters",
            "rate",
            "test loss",
        ]
        heads += ["beside the best", f"steps to {NEAR:.0%}"]
        parts.append(markdown_table(heads, _rows(runs)))
    random = tables.results["task"] == capacity.RandomBits.__name__
    if random.any():
        bits = capacity.stored(tables.of(tables.results[random])).groupby("model")["bits"]
        least, middle, most = bits.min(), bits.median().sort_values(ascending=False), bits.max()
        said = (f"`{model}` {middle[model]:.2f} ({least[model]:.2f} to {most[model]:.2f})" for model in middle.index)
        parts.append(f"Bits learnt by heart, for each parameter: {names(said)}.")
    seeds = table["seed"].nunique()
    parts.append(
        f"Of {seeds} seeds, the median and from the least to the largest; two cells differ where all seeds of one are "
        f"better than all of the other, which of two that are alike happens in {2 / math.comb(2 * seeds, seeds):.1%} "
        f"of cases. Who solves a generated task, by a loss of {SOLVED:g} of the baseline's, is as good as who else "
        f"does. Steps are those to {NEAR:.0%} of what a run gains over the "
        "baseline, at best."
    )
    if len(places):
        mean = places.mean().sort_values()
        said = names(f"`{model}` {place:.1f}" for model, place in mean.items())
        parts.append(f"Mean rank over {len(places)} {'task' if len(places) == 1 else 'tasks'}: {said}.")
    return parts + _answers(table[table["all"]])


def _rows(runs: pd.DataFrame) -> list[list[str]]:
    models = dict(iter(runs.groupby("model")))
    order = sorted(models, key=lambda model: models[model]["loss"].median())
    best = next((model for model in order if models[model]["all"].all()), None)
    rows = []
    for model in order:
        own, loss = models[model], models[model]["loss"]
        if not own["all"].all():
            verdict = f"not all seeds ended, but {len(own)}"
        else:
            worse = differ(models[best]["judged"], own["judged"])
            verdict = "best" if model == best else "worse" if worse else "no difference"
        rows.append([
            f"`{model}`", f"{own['parameters'].iloc[0]:,.0f}", f"{own['rate'].iloc[0]:g}",
            f"{loss.median():.4g} ({loss.min():.4g} to {loss.max():.4g})", verdict, f"{own['steps'].median():.0f}",
        ])  # fmt: skip
    return rows


def _answers(table: pd.DataFrame) -> list[str]:
    """The questions that people bring, each answered by the tasks on which all seeds say the same."""
    losses = {pair: own["judged"] for pair, own in table.groupby(["task", "model"])}
    baselines = table.groupby("task")["baseline"].min()
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
            "A simple RNN is enough, better than what needs no training and no cell better than it in all seeds, on "
            f"{names(enough) if enough else 'none'}."
        )
    if "lstm" in models:
        said += [f"`{new}` or LSTM: {compared(new, 'lstm')}." for new in NEW if new in models]
    return ["\n".join(f"- {line}" for line in said + _reach(table))]


def _reach(table: pd.DataFrame) -> list[str]:
    """Whether how far the gradient reaches at initialisation tells which cell does better, or sooner."""
    said = []
    for outcome, words in {"judged": "the test loss", "steps": f"the steps to {NEAR:.0%}"}.items():
        found = []
        for task, runs in table.groupby("task"):
            cells = runs.groupby("model")[["reach", outcome]].median().dropna()
            if len(cells) > 3 and (cells.nunique() > 1).all():
                rho, p = correlation(cells["reach"], cells[outcome])
                found.append(f"{rho:.2f} on {task} (p = {p:.3f})")
        if found:
            said.append(
                f"Rank correlation, over the cells, of the gradient's memory length at initialisation with {words}: "
                f"{names(found)}."
            )
    return said
