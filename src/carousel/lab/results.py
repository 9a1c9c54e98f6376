"""A run's record, and the tables made of many."""

import errno
import json
import math
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import pandas as pd

RECORD = "result.json"
TABLES = ("results", "gradient_flow", "loss_curves")
FLOW = "flow.csv"  # of one run; the report gathers them into gradient_flow.csv
PACKAGES = ("torch", "lightning", "hydra-core", "tensorboard")


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write a file beside `path`, then put it in place: `path` is never half-written."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EEXIST, "there is something else than a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(part)
        part.replace(path)
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
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict) or "status" not in record:
        raise Unreadable(f"{path} is no record of a run")
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


def outcome(folder: Path) -> float:
    """The test loss of the run in `folder`; infinite if there is none, for a sweeper that looks for the least."""
    try:
        loss = read_record(folder)["metrics"].get("test/loss", math.inf)
    except (FileNotFoundError, Unreadable):
        return math.inf
    return loss if math.isfinite(loss) else math.inf


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
    found = records(folder)
    if not found:
        return tuple(_read_table(folder, name) for name in TABLES)
    rows, flows, curves = [], [], []
    for (run, record), label in zip(found.items(), _labels(list(found.values())), strict=True):
        keys = {"run": run.relative_to(folder).as_posix(), "label": label}
        nested = {part: record.pop(part) for part in ("overrides", "metrics", "versions", "config")}
        rows.append(keys | record | nested["metrics"])
        rows[-1] |= {f"{part}.{k}": v for part in ("versions", "config") for k, v in nested[part].items()}
        if record["status"] == "finished":
            keys |= {key: record[key] for key in ("model", "task", "seq_len", "seed")}
            if (run / FLOW).exists():
                flows.append(pd.read_csv(run / FLOW).assign(**keys))
            if (run / "metrics.csv").exists():
                curve = pd.read_csv(run / "metrics.csv").reindex(columns=["step", "train/loss", "val/loss"])
                curves.append(curve.dropna(thresh=2).assign(**keys))
    results = pd.DataFrame(rows).sort_values(["label", "seq_len", "seed", "run"], ignore_index=True)
    return results, *(pd.concat(t, ignore_index=True) if t else pd.DataFrame() for t in (flows, curves))


def _read_table(folder: Path, name: str) -> pd.DataFrame:
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.exists():
            return pd.read_csv(path) if path.stat().st_size > 1 else pd.DataFrame()
    if name != "results" and (folder / "results.csv").exists():
        return pd.DataFrame()
    raise FileNotFoundError(f"no run ({RECORD}) under {folder}")


def _labels(records: list[dict]) -> list[str]:
    """The model, and whatever else was varied besides the length and the seed.

    That is what the command lines say differently, and what the configurations say differently where model, task and
    length are the same (other differences follow from those).
    """
    keys = {key for r in records for key in r["overrides"]} - {"model", "task.seq_len", "seed", "experiment"}
    varied = {key for key in keys if len({r["overrides"].get(key) for r in records}) > 1}
    groups: dict[tuple, list[dict]] = {}
    for r in records:
        groups.setdefault((r["model"], r["task"], r["seq_len"]), []).append(r["config"])
    for configs in groups.values():
        for key in {key for config in configs for key in config} - {"seed", "data_seed"}:
            if len({str(config.get(key)) for config in configs}) > 1:
                varied.add(key)

    def label(r: dict) -> str:
        values = {key: r["overrides"].get(key, r["config"].get(key)) for key in sorted(varied)}
        return " ".join([r["model"], *(f"{key}={value}" for key, value in values.items() if value is not None)])

    return [label(r) for r in records]
