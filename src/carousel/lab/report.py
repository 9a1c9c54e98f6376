"""The report on a folder of runs: tables, figures, and sentences that follow from the numbers."""

import io
import os
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from . import figures, html, scores, search, summary
from .experiments import CHOSEN, EXPERIMENTS
from .records import (
    BUDGET,
    RECORD,
    Tables,
    best,
    by_goal,
    markdown_table,
    measured,
    names,
    not_begun,
    places,
    relative,
    told,
    value,
    varied,
    write,
)
from .records import length as in_words
from .reproduce import REPRODUCED, claim
from .style import by_size, few, levels, looks, ordered


def picture(experiment: str) -> str:
    """What the figure of a named experiment is called."""
    return experiment.rpartition("/")[2]


MARK = "<!-- Written by Carousel, and again by every report on these runs. -->"
PAGE = "report.html"
SHORT = 10
"""The lags over which the rate of decay at initialisation is quoted, after lag 1."""
LISTED = 10
"""Of the runs that were not begun."""
UNSAID = ("_target_", "_partial_", "limit_train_batches", "devices", "enable_checkpointing", "enable_model_summary")
"""Ends of keys that the report's settings leave out."""
NAMED = EXPERIMENTS | REPRODUCED
"""The experiments of which more is said than of any sweep."""
SHOWN = {
    "solved": "Which runs solve the task, and after how many training steps.",
    "scores": "The test scores of every run, beside those of the baselines.",
    "gradient_flow": "The norm of the gradient against the lag, before and after training.",
    "loss_curves": "The validation loss of every run against the training step.",
} | {picture(name): str(experiment.__doc__).splitlines()[0] for name, experiment in NAMED.items()}
"""What each figure shows, for those who can't see it."""


def write_report(tables: Tables, runs: Path, output: Path | None = None, key: str | None = None) -> list[str]:
    """Write report.md, its figures and the tables, report.html if the runs are there, and beside them their summary for
    TensorBoard.

    Depends on nothing but the tables, so it can be repeated at any time, during a sweep as well. A figure that cannot
    be drawn is named in the report, and stops nothing; nor does a page that cannot be made.

    Args:
        tables: as `collect(runs)` gives them.
        runs: the folder of the runs.
        output: where to write; by default to `runs`.
        key: a swept key whose best value is to be chosen for each setting, as `best` does.

    Returns:
        What could not be drawn, a line each.

    Raises:
        FileExistsError: `output` holds files of these names that no report has written.
        OSError: `output` cannot be written to.
    """
    output = output or runs
    to_runs = os.path.relpath(runs, output)
    results = tables.results
    experiment = _experiment(results)
    key = key or (CHOSEN if experiment and f"config.{CHOSEN}" in varied(results) else None)
    ended = results[results["status"].isin(["finished", "diverged", "failed"])]
    chosen = best(ended, key) if key and len(ended) else results
    shown = tables.of(chosen[chosen["status"] == "finished"])

    made, drawn, failures = {}, {}, []
    for name, draw in plans(shown, experiment).items():
        try:
            made[name] = draw()
            drawn[name] = png(made[name])
        except Exception as error:  # whatever it is: the numbers are there
            failures.append(f"{name}.png was not drawn: {type(error).__name__}: {error}")
    waiting = not_begun(runs)
    parts = [heading(results, len(waiting)), setup(chosen)]
    if key and len(ended):
        parts.append(choice(results, chosen, key))
    parts += search.told(runs, results, to_runs)
    if experiment in NAMED and len(shown.results):
        pictured, found = image(picture(experiment), drawn), []
        try:
            if experiment in REPRODUCED:
                found = claim.table(REPRODUCED[experiment].CLAIMS, shown)
            else:
                found = EXPERIMENTS[experiment].findings(shown)
        except Exception as error:
            failures.append(f"the findings were not written: {type(error).__name__}: {error}")
        parts += pictured + found if experiment in REPRODUCED else found + pictured  # which end in their table
    else:
        parts += general(shown, results, drawn)
    if failures:
        parts += ["## What could not be drawn", "\n".join(f"- {line}" for line in failures)]
    parts.append(unfinished(results, waiting, to_runs))
    title, body = runs.resolve().name, "\n\n".join(filter(None, parts)) + "\n"
    text = f"{MARK}\n# {title}\n\n{body}"

    files: dict[str, Callable[[Path], object]] = {"report.md": lambda part: part.write_text(text)}
    files |= {f"{name}.png": lambda part, image=image: part.write_bytes(image) for name, image in drawn.items()}
    has_runs = any(runs.rglob(RECORD))
    if output != runs or has_runs:  # or else the tables were read from there
        for name, table in zip(Tables._fields, tables, strict=True):
            files[f"{name}.csv"] = lambda part, table=table: table.to_csv(part, index=False)
    meant = [*files, *[PAGE] * has_runs]
    if not _ours(output) and (foreign := [name for name in meant if (output / name).exists()]):
        raise FileExistsError(f"{output} holds {names(foreign)}, which no report has written; choose another --output")
    for name, save in files.items():
        write(output / name, save)
    if has_runs:  # to whose folders it leads
        try:
            pictures = {f"{name}.png": html.picture(made[name], drawn[name]) for name in drawn}
            page = html.page(title, body, pictures, tables, waiting, to_runs)
            write(output / PAGE, lambda part: part.write_text(page, encoding="utf-8"))
        except Exception as error:  # the words are in report.md
            failures.append(f"{PAGE} was not written: {type(error).__name__}: {error}")
            if (output / PAGE).is_file() and not (output / PAGE).is_symlink():
                (output / PAGE).unlink()  # it says what was so before
    if output == runs and has_runs:
        try:
            summary.summarise(runs, tables, shown, text, drawn)
        except Exception as error:  # no page of TensorBoard is worth a report
            failures.append(f"TensorBoard's summary was not written: {type(error).__name__}: {error}")
    return failures


def _ours(folder: Path) -> bool:
    try:
        return (folder / "report.md").read_text(errors="replace").startswith(MARK)
    except OSError:
        return False


def _experiment(results: pd.DataFrame) -> str | None:
    """The named experiment that all runs are of."""
    found = set(results["experiment"].dropna()) if "experiment" in results else set()
    return found.pop() if len(found) == 1 and results["experiment"].notna().all() else None


def plans(tables: Tables, experiment: str | None) -> dict[str, Callable[[], Figure]]:
    """The figures to draw, by name."""
    results, flow, curves, _ = tables
    if experiment in NAMED:
        return {picture(experiment): lambda: NAMED[experiment].figure(tables)} if len(results) else {}
    style = looks(results) if len(results) else {}
    made: dict[str, Callable[[], Figure]] = {}
    if len(flow):
        made["gradient_flow"] = lambda: figures.gradient_flow(flow, style)
    goal, rest = by_goal(results)
    if len(goal):
        made["solved"] = lambda: figures.solved(goal, style)
    if len(rest):
        made["scores"] = lambda: scores.figure(rest, style)
    if len(curves):
        made["loss_curves"] = lambda: figures.loss_curves(curves, results, style)
    return made


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    return buffer.getvalue()


def image(name: str, drawn: Collection[str]) -> list[str]:
    return [f"![{SHOWN[name]}]({name}.png)"] if name in drawn else []


def heading(results: pd.DataFrame, waiting: int = 0) -> str:
    statuses = results["status"].value_counts().to_dict() | ({"not begun": waiting} if waiting else {})
    counts = names(f"{count} {status}" for status, count in statuses.items())
    repeats = results.groupby(["task", "label", "seq_len"]).size()
    seeds = f"{repeats.min()}" if repeats.min() == repeats.max() else f"{repeats.min()} to {repeats.max()}"
    hours = results["wall_time_s"].sum() / 3600 if "wall_time_s" in results else 0.0
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    total = len(results) + waiting
    runs = f"{total} run" + "s" * (total > 1)
    return f"{runs} ({counts}), {spent} of computing in all; runs per setting: {seeds}."


def setup(results: pd.DataFrame) -> str:
    """What all runs share, and what varies."""
    rows = []
    for column in ["model", "task", *(c for c in results if c.startswith("config."))]:
        if column.endswith(UNSAID):
            continue
        found = [word for word in levels(results[column].dropna()) if word not in ("None", "nan")]
        if found:
            rows.append([f"`{column.removeprefix('config.')}`", few(found)])
    versions = {c.removeprefix("versions."): results[c].dropna().unique() for c in results if c.startswith("versions.")}
    rows += [[name, ", ".join(str(x)[:12] for x in found)] for name, found in versions.items() if len(found)]
    return "<details><summary>Settings</summary>\n\n" + markdown_table(["setting", "value"], rows) + "\n\n</details>"


def choice(results: pd.DataFrame, chosen: pd.DataFrame, key: str) -> str:
    """Which value of the key each setting is shown with."""
    tried = levels(results[f"config.{key}"].dropna())
    by = chosen.groupby(["label", "task", "seq_len"])[f"config.{key}"].first().map(value).unstack(["task", "seq_len"])
    by = by.sort_index(axis=1).reindex(sorted(by.index, key=by_size))
    heads = [f"`{key}` chosen", *_heads(by.columns)]
    rows = [
        [f"`{label}`", *("" if x != x else x for x in row)] for label, row in zip(by.index, by.to_numpy(), strict=True)
    ]
    return (
        f"`{key}` was chosen for each setting on validation data, of {names(tried)} (most runs solved, then the fewest "
        f"steps, then the least loss); what follows is of these runs alone.\n\n{markdown_table(heads, rows)}"
    )


def _heads(columns: pd.MultiIndex) -> list[str]:
    """(task, seq_len) in words."""
    several = columns.get_level_values(0).nunique() > 1
    return [", ".join(filter(None, (task * (several or not steps), in_words(steps)))) for task, steps in columns]


def unfinished(results: pd.DataFrame, waiting: list[str], to_runs: str) -> str:
    rest = results[(results["status"] != "finished") | results["error"].notna()]
    lines = [f"- {run}: not begun" for run in waiting[:LISTED]]
    lines += [f"- and {len(waiting) - LISTED} more that are not begun"] * (len(waiting) > LISTED)
    for run in rest.itertuples():
        said = f": {run.error}" if isinstance(run.error, str) else ""
        lines.append(f"- [{run.run}](<{html.link(to_runs, run.run)}>): {run.status}{said}")
    return "\n\n".join(["## What did not finish, or not whole", "\n".join(lines)]) if lines else ""


def general(tables: Tables, everything: pd.DataFrame, drawn: Collection[str]) -> list[str]:
    """What is said of a sweep that is no named experiment."""
    results, flow, _, _ = tables
    if results.empty:
        return []
    goal, rest = by_goal(results)
    parts = solved_parts(goal, everything, drawn) if len(goal) else []
    if len(rest):
        parts += [
            "## What is reached",
            "The mean of the runs, and in brackets the least and the largest; above them what needs no training.",
            *scores.tables(rest),
            *image("scores", drawn),
        ]
    if len(flow):
        parts += [
            "## How the gradient flows",
            *flow_parts(tables),
            *image("gradient_flow", drawn),
        ]
    if "loss_curves" in drawn:
        stuck = (results["val/loss"] > 0.8 * results["baseline_loss"]).sum()
        parts += [
            "## How the loss falls",
            f"{stuck} of {len(results)} runs end within 20% of the baseline's loss or above it, having learnt next to "
            "nothing.",
            *image("loss_curves", drawn),
        ]
    return parts


def solved_parts(results: pd.DataFrame, everything: pd.DataFrame, drawn: Collection[str]) -> list[str]:
    """Of tasks that say what counts as solved."""
    budget = levels(results[BUDGET].dropna()) if BUDGET in results else []
    return [
        "## What is solved",
        f"Solved means {meant_by_solved(results)}, within {names(budget)} training steps. In the table, the runs that "
        "solve it, and the median number of steps until then, over all runs; else the median test loss as a multiple "
        "of the baseline's.",
        solved_table(results, everything),
        *best_sentence(results),
        *image("solved", drawn),
    ]


def meant_by_solved(results: pd.DataFrame) -> str:
    """What counts as solved."""
    stop = "config.callbacks.stop_when_solved"
    if f"{stop}.monitor" in results and results[f"{stop}.monitor"].notna().any():
        asked = results[[f"{stop}.monitor", f"{stop}.at_least"]].dropna().drop_duplicates()
        return names(f"{monitor} of at least {least:g}" for monitor, least in asked.itertuples(index=False))
    baselines = results.groupby("task")["baseline_loss"].first()
    losses = names(f"{loss:.4f} on {task}" for task, loss in baselines.items())
    return f"a validation loss of at most a tenth of the baseline's, the best constant answer's ({losses})"


def solved_table(results: pd.DataFrame, everything: pd.DataFrame) -> str:
    pending = everything[everything["status"].isin(["running", "interrupted"])]
    columns = sorted(set(zip(results["task"], results["seq_len"], strict=True)))
    rows = []
    for label, own in ordered(results.groupby("label")):
        row = [f"`{label}`"]
        for task, length in columns:
            runs = own[(own["task"] == task) & (own["seq_len"] == length)]
            missing = ((pending["task"] == task) & (pending["seq_len"] == length) & (pending["label"] == label)).sum()
            row.append("; ".join(told(runs)) + f" ({missing} more unfinished)" * bool(missing) if len(runs) else "")
        rows.append(row)
    return markdown_table(["setting", *_heads(pd.MultiIndex.from_tuples(columns))], rows)


def best_sentence(results: pd.DataFrame) -> list[str]:
    """Of several settings the one that solves most, if there is one."""
    share = results.groupby("label")["solved"].agg(["sum", "count"])
    rate = share["sum"] / share["count"]
    if len(share) < 2 or rate.max() == 0:
        return []
    first = share.index[rate == rate.max()]
    counts = names(f"`{label}` ({share.loc[label, 'sum']} of {share.loc[label, 'count']} runs)" for label in first)
    return [f"The largest share is solved by {counts}."]


def flow_parts(tables: Tables) -> list[str]:
    """The jump and the rate of the gradient's decay at initialisation, and what training makes of the memory length."""
    _, flow, _, measurements = tables
    longest = flow["seq_len"] == flow.groupby("task")["seq_len"].transform("max")
    flow = relative(flow[longest])
    first = flow[flow["step"] == flow.groupby("run")["step"].transform("min")]
    lengths = {when: measured(measurements, "memory_length", when) for when in ("init", "end")}
    several = len(places(flow)) > 1
    tasks = flow["task"].nunique()
    rows = []
    for (task, label, layer, direction, state), curves in ordered(
        first.groupby(["task", "label", "layer", "direction", "state"])
    ):
        curve = curves.groupby("lag")["log10_norm"].mean()
        last = min(SHORT + 1, curve.index.max())
        rate = 10 ** ((curve[last] - curve[1]) / (last - 1)) if last > 1 else float("nan")
        row = [task] * (tasks > 1) + [f"`{label}`"] + [layer, direction] * several
        row += [f"∂L/∂{state}", *("" if x != x else f"{x:.3f}" for x in (10 ** curve[1], rate))]
        for when in lengths:
            of = lengths[when]
            if len(of):
                of = of[(of["layer"] == layer) & (of["direction"] == direction) & (of["state"] == state)]
                row.append(reach(of[of["run"].isin(curves["run"])]["value"].median(), curve.index.max()))
        rows.append(row)
    heads = ["task"] * (tasks > 1) + ["setting"] + ["layer", "direction"] * several
    heads += ["gradient", "lag 0 to 1", f"per lag, 1 to {min(SHORT + 1, flow['lag'].max())}"]
    heads += ["memory length before", "after training"] * any(map(len, lengths.values()))
    steps = names(f"{n + 1}" for n in sorted(flow.groupby("run")["lag"].max().unique()))
    return [
        f"With sequences of {steps} steps, at initialisation: the factors by which the norm falls from lag 0 to lag 1 "
        "(where the loss stops reading the state directly), and then per lag, the geometric mean of the runs. The "
        "memory length is the largest lag at which the norm is above 1% of lag 0's, the median of the runs; `all` if "
        "it is the last lag that there is.",
        markdown_table(heads, [[str(x) for x in row] for row in rows]),
    ]


def reach(lags: float, last: int) -> str:
    """A memory length in words: it cannot be seen to exceed the sequence."""
    return "" if lags != lags else "all" if lags >= last else f"{lags:.0f}"
