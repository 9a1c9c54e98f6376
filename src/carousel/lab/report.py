"""The report on a folder of runs: tables, figures, and sentences that follow from the numbers."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from . import figures
from .experiments import EXPERIMENTS
from .results import collect, memory_lengths, names, write

SHORT = 10
"""The lags over which the decay at initialisation is quoted."""


def write_report(folder: Path) -> pd.DataFrame:
    """Write results.csv, gradient_flow.csv, loss_curves.csv, the figures and report.md into `folder`.

    Depends on nothing but the runs under `folder`, so it can be repeated at any time, during a sweep as well; where
    there are none, on the tables of an earlier report.

    Returns:
        The results, one row a run.

    Raises:
        FileNotFoundError: there is no run under `folder`.
    """
    results, flow, curves = collect(folder)
    for name, table in (("results", results), ("gradient_flow", flow), ("loss_curves", curves)):
        write(folder / f"{name}.csv", lambda part, table=table: table.to_csv(part, index=False))
    made: dict[str, Figure] = {}
    style = figures.styles(results["label"].unique())
    finished = results[results["status"] == "finished"]
    experiment = _experiment(results)
    if experiment and len(finished):
        made[experiment] = EXPERIMENTS[experiment].figure(finished, flow, curves)
    elif not experiment:
        if not flow.empty:
            made["gradient_flow"] = figures.gradient_flow(flow, style)
        if len(finished):
            made["solved"] = figures.solved(results, style)
        if not curves.empty:
            made["loss_curves"] = figures.loss_curves(curves, results, style)
    for name, figure in made.items():
        write(folder / f"{name}.png", lambda part, figure=figure: figure.savefig(part, dpi=150, format="png"))
    if experiment and made:
        findings = EXPERIMENTS[experiment].findings(finished, flow, curves)
        parts = [*findings, f"![{experiment}]({experiment}.png)"]
    else:
        parts = general(finished, flow, set(made))
    write(folder / "report.md", lambda part: part.write_text(markdown(folder.resolve().name, results, parts)))
    return results


def _experiment(results: pd.DataFrame) -> str | None:
    """The experiment that all runs are of, if it is one with a figure of its own."""
    found = set(results["experiment"]) if "experiment" in results else set()
    return found.pop() if len(found) == 1 and found <= EXPERIMENTS.keys() else None


def markdown(title: str, results: pd.DataFrame, parts: list[str]) -> str:
    counts = names(f"{count} {status}" for status, count in results["status"].value_counts().items())
    seeds = results.groupby(["label", "seq_len"])["seed"].nunique()
    seeds = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    parts = [f"# {title}", f"{len(results)} runs ({counts}); seeds per setting: {seeds}.", *parts]
    failed = results[results["status"] != "finished"]
    if not failed.empty:
        lines = [f"- `{run.run}`: {run.status}: {run.error}" for run in failed.itertuples()]
        parts += ["## What did not finish", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def general(finished: pd.DataFrame, flow: pd.DataFrame, made: set[str]) -> list[str]:
    """What is said of a sweep that is no named experiment."""
    parts = []
    if "solved" in made:
        chance = names(f"{c:.4f}" for c in sorted(finished["chance"].unique()))
        parts += [
            "## Who solves which length",
            f"Solved means a validation loss of at most a tenth of chance ({chance}).",
            " ".join(solved_sentences(finished)),
            "![solved](solved.png)",
        ]
    if "gradient_flow" in made:
        parts += [
            "## How the gradient flows",
            " ".join(flow_sentences(flow, finished)),
            "![gradient flow](gradient_flow.png)",
        ]
    if "loss_curves" in made:
        parts += ["## How the loss falls", loss_sentence(finished), "![loss curves](loss_curves.png)"]
    return parts


def solved_sentences(finished: pd.DataFrame) -> list[str]:
    sentences = []
    for label, runs in finished.groupby("label"):
        share = runs.groupby("seq_len")["solved"].mean()
        always, never = share.index[share == 1], share.index[share == 0]
        partly = [f"{length} ({value:.0%} of seeds)" for length, value in share.items() if 0 < value < 1]
        said = []
        if len(always):
            said.append(f"solves {names(always)}")
        if partly:
            said.append(f"sometimes solves {names(partly)}")
        if len(never):
            said.append(f"fails at {names(never)}")
        sentences.append(f"`{label}` {' and '.join(said)}.")
    return sentences


def decay(curve: pd.Series) -> float:
    """The factor per step of a curve (indexed by lag) over the first lags."""
    lag = min(SHORT, curve.index.max())
    return 10 ** ((curve[lag] - curve[0]) / lag)


def flow_sentences(flow: pd.DataFrame, finished: pd.DataFrame) -> list[str]:
    longest = flow["seq_len"].max()
    state = "h" if "h" in set(flow["state"]) else flow["state"].iloc[0]
    h = flow[(flow["seq_len"] == longest) & (flow["state"] == state)]
    first = h[h["step"] == 0].groupby(["label", "lag"])["log10_norm"].mean()
    rate = {label: decay(first[label]) for label in first.index.unique("label")}
    order = sorted(rate, key=rate.get)
    sentences = [
        f"At initialisation, with sequences of {longest} steps, the norm of ∂L/∂{state} is multiplied per step, over "
        f"the first {min(SHORT, longest - 1)} lags, by {names(f'{rate[label]:.3f} (`{label}`)' for label in order)}."
    ]
    if "rnn" in rate and len(rate) > 1:
        below = [f"`{label}`" for label in order if rate[label] < rate["rnn"]]
        verb = "keeps" if len(below) == 1 else "keep"
        sentences.append(
            f"{names(below)} {verb} less of it than `rnn`." if below else "No model keeps less than `rnn`."
        )
    return [*sentences, *memory_sentences(finished[finished["seq_len"] == longest])]


def memory_sentences(runs: pd.DataFrame) -> list[str]:
    """What training makes of the memory length, on c where there is one, for runs of one length."""
    if "memory_length_end/h" not in runs:
        return []
    lengths = {when: memory_lengths(runs, when) for when in ("init", "end")}
    said = []
    for label, group in runs.groupby("label"):
        init, end = (lengths[when].loc[group.index].median() for when in ("init", "end"))
        said.append(f"from {init:.0f} to {end:.0f} for `{label}` ({group['solved'].sum()} of {len(group)} solved)")
    return [
        "Training takes the memory length (largest lag at which the norm is above 1% of lag 0's; of ∂L/∂c where there "
        f"is a c; medians) {names(said)}."
    ]


def loss_sentence(finished: pd.DataFrame) -> str:
    stuck = finished[finished["val/loss"] > 0.8 * finished["chance"]]
    best = finished.loc[(finished["test/loss"] / finished["chance"]).idxmin()]
    return (
        f"{len(stuck)} of {len(finished)} runs end within 20% of the chance level or above it, having learnt next to "
        f"nothing; the best (`{best['label']}`, seq_len {best['seq_len']}) ends at "
        f"{best['test/loss'] / best['chance']:.1%} of it."
    )


def table(results: pd.DataFrame) -> Table:
    """One row a model, one column a length: the training steps until solved, or the loss reached."""
    lengths = sorted(results["seq_len"].unique())
    grid = Table()
    grid.add_column("model", overflow="fold")
    for length in lengths:
        grid.add_column(str(length), justify="right", no_wrap=True)
    for label, runs in results.groupby("label"):
        cells = [[_cell(run) for _, run in runs[runs["seq_len"] == length].iterrows()] for length in lengths]
        grid.add_row(label, *("\n".join(cell) for cell in cells))
    return grid


def _cell(run: pd.Series) -> str:
    if run["status"] != "finished":
        return f"[red]{run['status']}[/]"
    if run["solved"]:
        return "[green]solved[/]" if pd.isna(run["steps_to_solve"]) else f"[green]{run['steps_to_solve']:.0f}[/]"
    return f"✗ {run['val/loss']:.4f}"
