"""A run's record, and the tables made of many."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import pandas as pd

RECORD = "result.json"
TABLES = ("results", "gradient_flow", "loss_curves")
FLOW = "flow.csv"  # of one run; the report gathers them into gradient_flow.csv
BUDGET = "config.trainer.max_steps"
SEEDS = ("config.seed", "config.data_seed")
SHORT = {"hidden_size": "h"}
ORDER = ["task", "label", "seq_len", "seed", "run"]  # of the rows of results
PACKAGES = ("torch", "lightning", "hydra-core", "tensorboard")


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write a file beside `path`, then put it in place: `path` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_record(folder: Path, record: dict) -> None:
    write(folder / RECORD, lambda part: part.write_text(json.dumps(record, indent=2) + "\n"))


def read_record(folder: Path) -> dict:
    return json.loads((folder / RECORD).read_text())


def names(values) -> str:
    """`a`, `b` and `c`."""
    words = [str(value) for value in values]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def markdown_table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """The first column to the left, the others to the right."""
    heads = list(heads)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def innermost(flow: pd.DataFrame) -> pd.DataFrame:
    """Of gradient_flow the rows of each model's innermost state, c or else h."""
    has_c = flow.groupby("model")["state"].transform(lambda states: "c" in set(states))
    return flow[flow["state"] == has_c.map({True: "c", False: "h"})]


def memory_lengths(results: pd.DataFrame, when: str) -> pd.Series:
    """Of each run, "init" or "end": of c where there is a c, or else of h."""
    on_h = results[f"memory_length_{when}/h"]
    return results[f"memory_length_{when}/c"].fillna(on_h) if f"memory_length_{when}/c" in results else on_h


def environment() -> dict[str, str | None]:
    """Versions of what the numbers depend on, and, in a checkout, the commit of the code."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "git": _commit(Path(__file__).parents[3])}


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:  # git is not installed
        return None


def is_finished(folder: Path) -> bool:
    return (folder / RECORD).exists() and read_record(folder)["status"] == "finished"


def outcome(folder: Path) -> float:
    """The test loss of the run in `folder`; nan if there is none."""
    return read_record(folder)["metrics"].get("test/loss", math.nan)


def collect(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Gather every run under `folder`, finished or not.

    Returns:
        results, one row a run; gradient_flow, one row for each run, training step, state and lag; loss_curves, one for
        each run and logged training step. The last two hold finished runs only.

    If there are no runs but the tables of an earlier call, as in outputs/reference/, those; the last two may be
    missing.

    Raises:
        FileNotFoundError: there is neither.
    """
    paths = sorted(folder.rglob(RECORD))
    if not paths:
        return tuple(_read_table(folder, name) for name in TABLES)
    rows, flows, curves = [], [], []
    for path in paths:
        run, record = path.parent, json.loads(path.read_text())
        name = {"run": run.relative_to(folder).as_posix()}
        nested = {part: record.pop(part) for part in ("overrides", "metrics", "versions", "config")}
        rows.append(name | {"label": ""} | record | nested["metrics"])
        rows[-1] |= {f"{part}.{k}": v for part in ("versions", "config") for k, v in nested[part].items()}
        if record["status"] == "finished":
            if (run / FLOW).exists():
                flows.append(pd.read_csv(run / FLOW).assign(**name))
            if (run / "metrics.csv").exists():
                curve = pd.read_csv(run / "metrics.csv").reindex(columns=["step", "train/loss", "val/loss"])
                curves.append(curve.dropna(thresh=2).assign(**name))
    results = pd.DataFrame(rows)
    results = results.assign(label=labels(results)).sort_values(ORDER, ignore_index=True)
    keys = results.set_index("run")[["label", "model", "task", "seq_len", "seed"]]
    return results, *(
        pd.concat(t, ignore_index=True).join(keys, on="run") if t else pd.DataFrame() for t in (flows, curves)
    )


def _read_table(folder: Path, name: str) -> pd.DataFrame:
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.exists():
            return pd.read_csv(path) if path.stat().st_size > 1 else pd.DataFrame()
    if name != "results" and (folder / "results.csv").exists():
        return pd.DataFrame()
    raise FileNotFoundError(f"no run ({RECORD}) under {folder}")


def varied(results: pd.DataFrame) -> list[str]:
    """The columns of the configuration, seeds aside, that tell apart the runs of one task, model and length.

    What follows from these three is not one of them, such as the T that an initialisation is told; and of two columns
    that always change together only the one with the shorter name is.
    """
    columns = [column for column in results if column.startswith("config.") and column not in SEEDS]
    values = results[columns].astype(str)
    changes = values.groupby([results["task"], results["model"], results["seq_len"]]).nunique() > 1
    found: dict[tuple, str] = {}
    for column in sorted(changes.columns[changes.any()], key=len):
        found.setdefault(tuple(pd.factorize(values[column])[0]), column)
    return sorted(found.values())


def labels(results: pd.DataFrame) -> pd.Series:
    """What each run's setting is called: all that varies but task, length and seed, as in `gru h=16 lr=0.001`."""
    columns = varied(results)
    ends = [column.split(".")[-1] for column in columns]
    words = {c: SHORT.get(end, end) if ends.count(end) == 1 else c[7:] for c, end in zip(columns, ends, strict=True)}
    several = results["model"].nunique() > 1

    def label(run: pd.Series) -> str:
        said = [f"{words[c]}={value(run[c])}" for c in columns if isinstance(run[c], list) or pd.notna(run[c])]
        return " ".join([run["model"], *said] if several or not said else said)

    return results.apply(label, axis=1)


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
        .astype(str)
        .assign(
            unsolved=~results["solved"].astype(bool),
            steps=results["steps_to_solve"].astype(float).fillna(results[BUDGET]),
            loss=results["val/loss"].astype(float).fillna(math.inf),
        )
    )
    scores = runs.groupby([*by, column], sort=False).agg({"unsolved": "mean", "steps": "mean", "loss": "median"})
    chosen = scores.sort_values(list(scores), kind="stable").reset_index().drop_duplicates(by)[[*by, column]]
    kept = results[pd.MultiIndex.from_frame(runs[[*by, column]]).isin(pd.MultiIndex.from_frame(chosen))]
    return kept.assign(label=labels(kept)).sort_values(ORDER, ignore_index=True)


def steps_to_solve(runs: pd.DataFrame) -> str:
    """The median number of training steps until solved, an unsolved run taking more than it may: "350", "> 5000"."""
    median = runs["steps_to_solve"].where(runs["solved"].astype(bool)).astype(float).fillna(math.inf).median()
    return f"> {runs[BUDGET].max():.0f}" if math.isinf(median) else f"{median:.0f}"
