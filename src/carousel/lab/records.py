"""A run's record, and the tables made of many."""

import errno
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .tables import (  # noqa: F401  what the tables of a run are called is part of what a record is
    COLUMNS,
    CURVES,
    FLOW,
    FLOW_COLUMNS,
    PROBE_COLUMNS,
    PROBES,
    names,
    read_together,
    whole,
)

RECORD = "result.json"
NOW = "now.json"  # where a run stands that is at work
RUNS = "runs.txt"  # of a sweep: the folders of all its runs, begun or not, a line each
BUDGET = "config.trainer.max_steps"
OWN = "config.model.cell.path"
SEEDS = ("config.seed", "config.data_seed", "config.task.seed")
SHORT = {"hidden_size": "h"}
ORDER = ["task", "label", "seq_len", "seed", "run"]  # of the rows of results
RENAMED = {"chance": "baseline_loss", "val/chance": "val/baseline_baseline"}  # of older records and tables
PARTS = ("overrides", "metrics", "versions", "config")  # of a record
KINDS = {"status": str, "model": str, "task": str, "seq_len": int | None, "seed": int, "solved": bool | None}
KINDS |= dict.fromkeys(PARTS, dict) | dict.fromkeys(
    ("baseline_loss", "steps_to_solve", "wall_time_s"), int | float | None
)


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write a file beside `path`, then put it in place: `path` is never half-written."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EEXIST, "there is something else than a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(part)
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a disk that is full does not say
        raise
    finally:
        part.unlink(missing_ok=True)


def write_record(folder: Path, record: dict) -> None:
    write(folder / RECORD, lambda part: part.write_text(json.dumps(record, indent=2) + "\n"))


class Unreadable(ValueError):
    """A record that is cut off, empty or none of ours; the message names the file."""


def read_record(folder: Path) -> dict:
    """The record of the run in `folder`.

    Raises:
        FileNotFoundError: there is none.
        Unreadable: it cannot be read.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise Unreadable(f"{path} is no record of a run")
    if wrong := [key for key, kind in KINDS.items() if not isinstance(record.get(key), kind)]:
        raise Unreadable(f"{path} is no record of a run: see its {wrong[0]}")
    return record


def records(folder: Path) -> dict[Path, dict]:
    """The record of each run under `folder`, by the run's folder; one that cannot be read is warned of and left out."""
    found = {}
    for path in sorted(folder.rglob(RECORD)):
        try:
            found[path.parent] = read_record(path.parent)
        except Unreadable as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return found


def list_runs(folder: Path, runs: list[str]) -> None:
    """Write down what a sweep is going to run, below what it was to run before."""
    path = folder / RUNS
    lines = dict.fromkeys([*(path.read_text().splitlines() if path.is_file() else []), *runs])
    write(path, lambda part: part.write_text("".join(f"{line}\n" for line in lines)))


def not_begun(folder: Path) -> list[str]:
    """The runs of the sweep in `folder` that have no record yet."""
    path = folder / RUNS
    runs = path.read_text().splitlines() if path.is_file() else []
    return [run for run in runs if not (folder / run / RECORD).exists()]


def markdown_table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """The first column to the left, the others to the right."""
    heads = list(heads)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


class Tables(NamedTuple):
    """What `collect` gathers. Each table begins with the run, and all but `results`, which hold finished runs alone,
    end with its label, model, task, seq_len and seed."""

    results: pd.DataFrame
    """One row a run, finished or not: its record. `seq_len` is 0 where the sequences of a task are of many lengths."""
    gradient_flow: pd.DataFrame
    """step, layer, direction, state, lag, log10_norm, and predicted where that was asked for."""
    loss_curves: pd.DataFrame
    """step, train/loss, val/loss."""
    measurements: pd.DataFrame
    """step, measure, layer, direction, state, value."""

    def of(self, results: pd.DataFrame) -> "Tables":
        """The tables of some of the runs alone, under the labels that these have in `results`."""
        labels = results.set_index("run")["label"]
        parts = [t[t["run"].isin(labels.index)].copy() if len(t) else t for t in self[1:]]
        return Tables(results, *(t.assign(label=t["run"].map(labels)) if len(t) else t for t in parts))


def innermost(rows: pd.DataFrame, state: str | None = None) -> pd.DataFrame:
    """Of a table with layers, directions and states each run's rows of its last layer, forward, and of one state: by
    default of the innermost, c or else h (or else the cell's last)."""
    top = (rows["layer"] == rows.groupby("run")["layer"].transform("max")) & (rows["direction"] == "forward")
    rows = rows[top]
    if state:
        return rows[rows["state"] == state]
    found = rows.groupby("run")["state"].transform(
        lambda states: next((s for s in "ch" if s in set(states)), states.iloc[-1])
    )
    return rows[rows["state"] == found]


def relative(flow: pd.DataFrame) -> pd.DataFrame:
    """The curves of gradient_flow relative to their lag 0, nan where there is none or the gradient is zero."""
    curve = ["run", "step", "layer", "direction", "state"]
    flow = flow.sort_values([*curve, "lag"]).assign(log10_norm=flow["log10_norm"].astype(float))
    curves = flow["log10_norm"].replace([-math.inf, math.inf], math.nan)
    first = curves.where(flow["lag"] == 0).groupby([flow[c] for c in curve]).transform("max")
    return flow.assign(log10_norm=curves - first)


def places(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """The layers and directions that a table speaks of."""
    found = rows[["layer", "direction"]].drop_duplicates() if len(rows) else rows
    return sorted(found.itertuples(index=False, name=None))


def measured(rows: pd.DataFrame, measure: str, when: str) -> pd.DataFrame:
    """The rows of a measure at the first ("init") or the last ("end") training step that each run was probed at."""
    rows = rows[rows["measure"] == measure] if len(rows) else pd.DataFrame(columns=["run", *PROBE_COLUMNS])
    return rows[rows["step"] == rows.groupby("run")["step"].transform({"init": "min", "end": "max"}[when])]


def memory_lengths(tables: Tables, when: str) -> pd.Series:
    """For each row of the results, at "init" or "end": of the last layer's innermost state; nan where there is none."""
    rows = innermost(measured(tables.measurements, "memory_length", when))
    return tables.results["run"].map(rows.set_index("run")["value"]).astype(float)


def outcome(folder: Path) -> float:
    """The test loss of the run in `folder`; infinite if there is none, for a sweeper that looks for the least."""
    try:
        loss = read_record(folder)["metrics"].get("test/loss", math.inf)
    except (FileNotFoundError, Unreadable):
        return math.inf
    return loss if math.isfinite(loss) else math.inf


def collect(folder: Path) -> Tables:
    """Gather every run under `folder`, finished or not.

    If there are no runs but the tables of an earlier call, as in outputs/reference/, those; all but the results may be
    missing. A run's table that is missing or cannot be read counts as empty; the second is said in its `error`.

    Raises:
        FileNotFoundError: there is neither.
    """
    found = records(folder)
    if not found:
        tables = Tables(*(_read_table(folder, name) for name in Tables._fields))
        return tables.of(_by_class(tables.results))
    rows: list[dict] = []
    parts: dict[str, dict[str, str]] = {name: {} for name in COLUMNS}
    for path, record in found.items():
        run = path.relative_to(folder).as_posix()
        nested = {part: record.pop(part) for part in PARTS}
        baselines = record.pop("baselines", {})
        record.pop("earlier", None)
        rows.append({"run": run, "label": ""} | record | nested["metrics"])
        rows[-1] |= {f"{part}.{k}": v for part in ("versions", "config") for k, v in nested[part].items()}
        rows[-1] |= {f"baseline.{k}.test/{m}": y for k, known in baselines.items() for m, y in known.items()}
        for name in parts if record["status"] == "finished" else ():
            try:
                parts[name][run] = whole(path / name)
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as error:  # empty, cut off, or no table at all
                rows[-1]["error"] = f"{name} cannot be read: {error}"
    read = {name: read_together(name, texts) for name, texts in parts.items()}
    for name, (_, wrong) in read.items():
        for row in rows:
            if row["run"] in wrong:
                row["error"] = f"{name} cannot be read: {wrong[row['run']]}"
    results = pd.DataFrame([{RENAMED.get(key, key): x for key, x in row.items()} for row in rows])
    results["seq_len"] = results["seq_len"].fillna(0).astype(int)
    results = _by_class(results)
    goal = _has_goal(results)
    results["solved"] = results["solved"].where(~goal | results["solved"].notna(), False)  # what failed is not solved
    results = results.astype({"solved": bool}) if goal.all() else results
    results = results.assign(label=labels(results)).sort_values(ORDER, ignore_index=True)
    keys = results.set_index("run")[["label", "model", "task", "seq_len", "seed"]]
    flow, curves, probes = (table for table, _ in read.values())
    curves = curves.reindex(columns=["run", "step", "train/loss", "val/loss"]).dropna(thresh=3, ignore_index=True)
    return Tables(results, *(t.join(keys, on="run") if len(t) else pd.DataFrame() for t in (flow, curves, probes)))


def _by_class(results: pd.DataFrame) -> pd.DataFrame:
    """The results with each cell of one's own, of `model=custom`, by the name of its class."""
    if OWN not in results:
        return results
    model = results[OWN].astype(str).str.rpartition(".")[2].where(results["model"] == "custom", results["model"])
    label = [old.replace("custom", name, 1) for old, name in zip(results["label"], model, strict=True)]
    return results.assign(model=model, label=label)


def _read_table(folder: Path, name: str) -> pd.DataFrame:
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.exists():
            return pd.read_csv(path).rename(columns=RENAMED) if path.stat().st_size > 1 else pd.DataFrame()
    if name != "results" and any(folder.glob("results.csv*")):
        return pd.DataFrame()
    raise FileNotFoundError(f"no run ({RECORD}) under {folder}")


def varied(results: pd.DataFrame) -> list[str]:
    """The columns of the configuration, seeds aside, that tell apart the runs of one task, model and length.

    What follows from these three is not one of them, such as the T that an initialisation is told; and of two columns
    that always change together only the one with the shorter name is.
    """
    columns = [column for column in results if column.startswith("config.") and column not in SEEDS]
    values = results[columns].map(str)
    values = values.loc[:, values.nunique() > 1]  # of which there are few
    changes = values.groupby([results["task"], results["model"], results["seq_len"]]).nunique() > 1
    found: dict[tuple, str] = {}
    for column in sorted(changes.columns[changes.any()], key=len):
        found.setdefault(tuple(pd.factorize(values[column])[0]), column)
    return sorted(found.values())


def labels(results: pd.DataFrame, without: Iterable[str] = ()) -> pd.Series:
    """What each run's setting is called: all that varies but task, length, seed and the columns `without`, as in
    `gru h=16 lr=0.001`."""
    columns = [column for column in varied(results) if column not in without]
    ends = [column.split(".")[-1] for column in columns]
    words = {c: SHORT.get(end, end) if ends.count(end) == 1 else c[7:] for c, end in zip(columns, ends, strict=True)}
    several = results["model"].nunique() > 1

    def label(run: pd.Series) -> str:
        said = [f"{words[c]}={value(run[c])}" for c in columns if isinstance(run[c], list) or pd.notna(run[c])]
        return " ".join([run["model"], *said] if several or not said else said)

    return results.apply(label, axis=1)


def length(seq_len: int) -> str:
    """The length of a task's sequences in words, if it has one."""
    return f"T = {seq_len}" if seq_len else ""


def value(x: object) -> str:
    """A value of the configuration as a word."""
    return f"{x:g}" if isinstance(x, float) else str(x).replace(" ", "")


def best(results: pd.DataFrame, key: str, by: Iterable[str] | None = None) -> pd.DataFrame:
    """Of each setting the runs with the value of a swept `key`, such as "optimizer.lr", that validates best.

    That is the one with the largest share of runs solved; of equals, the one that takes the fewest steps (the mean; an
    unsolved run counts with all it may take); of equals, the one with the least validation loss (the median).

    Args:
        results: runs that have ended; one that failed or diverged counts as unsolved.
        by: the columns that make a setting; by default task, length, model, and all else that varies.

    Returns:
        The rows of these runs, labelled anew, without the key.

    Raises:
        ValueError: no run has the key.
    """
    column = f"config.{key}"
    if column not in results:
        raise ValueError(f"{key} is in no run's configuration")
    by = list(by or ["task", "seq_len", "model", *(c for c in varied(results) if c != column)])
    runs = (
        results[[*by, column]]
        .map(str)  # nan too, which is what a setting has that another model's option varies in
        .assign(
            unsolved=~results["solved"].astype(bool),
            steps=results["steps_to_solve"].astype(float).fillna(results[BUDGET]),
            loss=results["val/loss"].astype(float).fillna(math.inf),
        )
    )
    scores = runs.groupby([*by, column], sort=False).agg({"unsolved": "mean", "steps": "mean", "loss": "median"})
    chosen = scores.sort_values(list(scores), kind="stable").reset_index().drop_duplicates(by)[[*by, column]]
    kept = results[pd.MultiIndex.from_frame(runs[[*by, column]]).isin(pd.MultiIndex.from_frame(chosen))]
    return kept.assign(label=labels(kept, without=[column])).sort_values(ORDER, ignore_index=True)


def by_goal(results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of tasks that say what counts as solved, and those of the others."""
    has = _has_goal(results)
    return results[has].astype({"solved": bool}), results[~has]


def _has_goal(results: pd.DataFrame) -> pd.Series:
    return results.groupby("task")["solved"].transform("count") > 0


def steps_to_solve(runs: pd.DataFrame) -> str:
    """The median number of training steps until solved, an unsolved run taking more than it may: "350", "> 5000"."""
    median = runs["steps_to_solve"].where(runs["solved"].astype(bool)).astype(float).fillna(math.inf).median()
    return f"> {runs[BUDGET].max():.0f}" if math.isinf(median) else f"{median:.0f}"


def told(runs: pd.DataFrame) -> list[str]:
    """How many of a setting's runs are solved, and if most are, the median of the training steps until then, or else of
    the test loss over the baseline's: "3/3", "350 steps"."""
    count, share = runs["solved"].sum(), runs["solved"].mean()
    if share > 0.5 and runs.loc[runs["solved"].astype(bool), "steps_to_solve"].notna().all():
        return [f"{count}/{len(runs)}", f"{steps_to_solve(runs)} steps"]
    loss = (runs["test/loss"] / runs["baseline_loss"]).median()
    return [f"{count}/{len(runs)}"] + [f"loss {loss:.2f}"] * bool(share < 1)
