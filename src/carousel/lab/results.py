"""A run's record, and the tables made of many."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd

RECORD = "result.json"
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


def environment() -> dict[str, str | None]:
    """Versions of what the numbers depend on, and the commit of the code."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "git": git.stdout.strip() or None}


def collect(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Gather every run under `folder`, finished or not.

    Returns:
        results, one row a run; gradient_flow, one row for each run, training step, state and lag; loss_curves, one for
        each run and logged training step. The last two hold finished runs only.

    Raises:
        FileNotFoundError: there is no run under `folder`.
    """
    paths = sorted(folder.rglob(RECORD))
    if not paths:
        raise FileNotFoundError(f"no run ({RECORD}) under {folder}")
    records = [json.loads(path.read_text()) for path in paths]
    rows, flows, curves = [], [], []
    for path, record, label in zip(paths, records, _labels(records), strict=True):
        run = path.parent
        keys = {"run": run.relative_to(folder).as_posix(), "label": label}
        nested = {part: record.pop(part) for part in ("overrides", "metrics", "versions", "config")}
        rows.append(keys | record | nested["metrics"])
        rows[-1] |= {f"{part}.{k}": v for part in ("versions", "config") for k, v in nested[part].items()}
        if record["status"] == "finished":
            keys |= {key: record[key] for key in ("seq_len", "seed")}
            if (run / "gradient_flow.csv").exists():
                flows.append(pd.read_csv(run / "gradient_flow.csv").assign(**keys))
            if (run / "metrics.csv").exists():
                curve = pd.read_csv(run / "metrics.csv").reindex(columns=["step", "train/loss", "val/loss"])
                curves.append(curve.dropna(thresh=2).assign(**keys))
    results = pd.DataFrame(rows).sort_values(["label", "seq_len", "seed", "run"], ignore_index=True)
    return results, *(pd.concat(t, ignore_index=True) if t else pd.DataFrame() for t in (flows, curves))


def _labels(records: list[dict]) -> list[str]:
    """The model, and whatever else was varied besides the length and the seed."""
    keys = {key for record in records for key in record["overrides"]} - {"model", "task.seq_len", "seed", "experiment"}
    varied = sorted(key for key in keys if len({record["overrides"].get(key) for record in records}) > 1)
    return [
        " ".join([r["model"], *(f"{key}={r['overrides'][key]}" for key in varied if key in r["overrides"])])
        for r in records
    ]
