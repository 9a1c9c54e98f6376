"""What a paper says, how it is measured here, and the table of both."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..records import BUDGET, Tables, markdown_table
from ..style import looks, named

Measure = Callable[[Tables], pd.Series]
"""One number a seed, by the run; of a run that never comes so far inf, or nothing where nothing was measured."""


class Rule(NamedTuple):
    """When a number agrees with what is published."""

    said: str
    holds: Callable[[float], bool]


def at_least(least: float) -> Rule:
    return Rule(f"at least {number(least)}", lambda x: x >= least)


def at_most(most: float) -> Rule:
    return Rule(f"at most {number(most)}", lambda x: x <= most)


def about(published: float, factor: float) -> Rule:
    """Within a factor in either direction."""
    words = f"within a factor of {number(factor)}"
    return Rule(words, lambda x: published / factor <= x <= published * factor)


def near(published: float, off: float) -> Rule:
    """Off by so much at most, in either direction."""
    return Rule(f"off by at most {number(off)}", lambda x: abs(x - published) <= off + 1e-9)


@dataclass(frozen=True)
class Claim:
    """One line of a published table.

    Every seed is judged by the rule. If all keep it, ours agrees, if none does, it disagrees; else it is said how many
    do. Where no run has the number, it is out of reach.
    """

    says: str
    """What is claimed, of which model and task."""
    published: str
    """The number as printed."""
    source: str
    """Where it is printed."""
    where: Mapping[str, object]
    """Which runs it is measured on: columns of the results and their values, such as {"model": "lstm"}."""
    measure: Measure
    rule: Rule
    why: str
    """What is not as in the paper, and what else the verdict rests on."""

    def ours(self, tables: Tables) -> pd.Series:
        results = tables.results
        for column, wanted in self.where.items():
            results = results[results[column] == wanted]
        return self.measure(tables.of(results)).dropna().astype(float)

    def verdict(self, ours: pd.Series) -> str:
        kept = [self.rule.holds(x) for x in ours]
        if not kept:
            return "out of reach"
        if len(set(kept)) == 1:
            return "agrees" if kept[0] else "disagrees"
        return f"agrees in {sum(kept)} of {len(kept)} seeds"


def column(name: str) -> Measure:
    """A column of the results, such as test/accuracy."""
    return lambda tables: tables.results.set_index("run")[name]


def ratio(name: str, model: str, other: str) -> Measure:
    """A column of the results of one model over that of another, of each seed, by the run of the first."""

    def read(tables: Tables) -> pd.Series:
        runs = tables.results
        first, second = (runs[runs["model"] == which].set_index("seed") for which in (model, other))
        found = first[name].astype(float) / second[name].astype(float)
        return pd.Series(found.to_numpy(), found.index.map(first["run"]), dtype=float)

    return read


def scaled(classes: int) -> Measure:
    """The test accuracy on a scale from chance, 0, to 1."""
    return lambda tables: (column("test/accuracy")(tables) * classes - 1) / (classes - 1)


def probed(measure: str) -> Measure:
    """What a probe measured after training."""

    def read(tables: Tables) -> pd.Series:
        rows = tables.measurements
        rows = rows[rows["measure"] == measure]
        return rows.sort_values("step").groupby("run")["value"].last()

    return read


def sequences_until_solved(tables: Tables) -> pd.Series:
    runs = tables.results.set_index("run")
    steps = runs["steps_to_solve"].astype(float).where(runs["solved"].astype(bool), math.inf)
    return steps * runs["config.batch_size"]


def loss_curves(tables: Tables) -> Figure:
    """The validation loss of each run: the figure of several tables."""
    return figures.loss_curves(tables.loss_curves, tables.results, looks(tables.results))


def number(x: float) -> str:
    """In four digits, and whole ones with commas."""
    if math.isinf(x):
        return "never"
    return f"{x:,.0f}" if abs(x) >= 1000 or float(x).is_integer() else f"{x:.4g}"


def spread(ours: pd.Series) -> str:
    """The median of the seeds, and from the least to the largest."""
    return f"{number(ours.median())} ({number(ours.min())} to {number(ours.max())})" if len(ours) else "not measured"


def budget(runs: pd.DataFrame) -> str:
    """What the runs of a claim may take, and what they took."""
    if not len(runs):
        return ""
    most = (runs[BUDGET] * runs["config.batch_size"]).max()
    parts = [f"{number(runs['parameters'].max())} parameters", f"at most {number(most)} sequences"]
    minutes = runs["wall_time_s"].astype(float).median() / 60
    return ", ".join([*parts, f"{minutes:.1f} minutes a run" if minutes >= 0.1 else "seconds a run"])


def table(claims: Iterable[Claim], tables: Tables) -> list[str]:
    """The claims beside what was found."""
    rows = []
    for claim in claims:
        ours = claim.ours(tables)
        runs = tables.results[tables.results["run"].isin(ours.index)]
        rows.append([
            f"{claim.says} ({claim.source})", claim.published, spread(ours), budget(runs), claim.verdict(ours),
            f"Agrees if {claim.rule.said}. {claim.why}".strip(),
        ])  # fmt: skip
    heads = ["what is claimed", "published", "ours", "budget", "verdict", "why"]
    models = ", ".join(named(model) for model in sorted(tables.results["model"].unique()))
    seeds = tables.results["seed"].nunique()
    return [
        "## What is published, and what was found",
        f"Ours is the median of {seeds} seeds, and from the least to the largest, of {models}; a verdict is of every "
        "seed by itself.",
        markdown_table(heads, rows),
    ]
