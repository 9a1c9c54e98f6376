"""Runs made up for the tests of what reads them: a known record, flow and loss curve in a folder."""

from pathlib import Path

import pandas as pd

from carousel.lab.records import FLOW_COLUMNS, PROBE_COLUMNS, write_record

BARE = {"status": "finished", "model": "rnn", "task": "adding", "seq_len": 10, "seed": 0, "solved": False}
BARE |= {"baseline_loss": 1 / 6, "steps_to_solve": None, "wall_time_s": 2.0}
BARE |= {part: {} for part in ("overrides", "metrics", "versions", "config")}
"""The least that is a record."""


def make_run(
    root: Path,
    model: str,
    seq_len: int,
    seed: int = 0,
    rate: float = 0.5,
    val_loss: float = 0.15,
    status: str = "finished",
    experiment: str | None = None,
    task: str = "adding",
    config: dict | None = None,
    metrics: dict | None = None,
    measures: dict | None = None,
    steps_to_solve: int | None = 100,
    **overrides,
) -> Path:
    """A run whose gradient decays by `rate` decades per lag, before and after training.

    `measures` holds, for each measure beside the memory lengths 6 and T - 1 of h, the first and the last value.
    """
    overrides = {"model": model, "task": task, "task.seq_len": str(seq_len), "seed": str(seed)} | overrides
    overrides |= {key: str(value) for key, value in (config or {}).items()}
    folder = root / ",".join(f"{k}={v}" for k, v in overrides.items())
    solved = val_loss < 1 / 60
    record = {
        "status": status,
        "error": None if status == "finished" else "ValueError: it broke",
        "model": model,
        "task": task,
        "experiment": experiment,
        "seq_len": seq_len,
        "seed": seed,
        "baseline_loss": 1 / 6,
        "solved": solved,
        "steps_to_solve": steps_to_solve if solved else None,
        "overrides": overrides,
        "steps": 100,
        "parameters": {"rnn": 100, "gru": 300}.get(model, 400),
        "wall_time_s": 2.0,
        "config": {"batch_size": 32, "seed": seed, "model.hidden_size": 8, "trainer.max_steps": 100} | (config or {}),
        "metrics": {
            "val/loss": val_loss,
            "test/loss": val_loss,
        }
        | (metrics or {}),
        "versions": {"torch": "2"},
    }
    write_record(folder, record)
    lags = range(seq_len)
    rows = [(step, 0, "forward", state, k, -k * rate) for step in (0, 100) for state in ("h", "c") for k in lags]
    pd.DataFrame(rows, columns=FLOW_COLUMNS).to_csv(folder / "flow.csv", index=False)
    measures = {"memory_length": (min(6, seq_len - 1), seq_len - 1)} | (measures or {})
    rows = [
        (s, name, 0, "forward", "h", y) for name, pair in measures.items() for s, y in zip((0, 100), pair, strict=True)
    ]
    pd.DataFrame(rows, columns=PROBE_COLUMNS).to_csv(folder / "probes.csv", index=False)
    steps = [0, 50, 100]
    curve = {"step": steps, "train/loss": [0.3, 0.2, val_loss], "val/loss": [None, 0.2, val_loss], "epoch": 0}
    pd.DataFrame(curve).to_csv(folder / "metrics.csv", index=False)
    return folder
