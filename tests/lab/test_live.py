"""The table of a sweep's runs at work, and what a run tells of itself for it."""

import io
import json
import os
import re
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from carousel.lab import live
from carousel.lab.records import NOW


@pytest.fixture
def clock(monkeypatch):
    made = SimpleNamespace(now=100.0, monotonic=lambda: made.now, time=time.time)
    monkeypatch.setattr(live, "time", made)
    return made


def trainer(step, loss=0.25):
    metrics = {} if loss is None else {"train/loss": torch.tensor(loss)}
    return SimpleNamespace(
        is_global_zero=True, global_step=step, estimated_stepping_batches=200, callback_metrics=metrics
    )


def said(folder):
    return json.loads((folder / NOW).read_text())


def test_a_run_tells_where_it_stands_at_most_once_a_second(tmp_path, clock):
    tell = live.Tell(tmp_path)
    tell.on_train_start(trainer(50), None)  # it goes on from there
    tell.on_validation_batch_end(trainer(50, None), None)
    first = said(tmp_path)
    assert first.pop("loss") != first.get("loss")
    assert first == {"state": "validation", "step": 50, "steps": 200, "left": None}
    clock.now += 0.9
    tell.on_train_batch_end(trainer(60), None)
    assert said(tmp_path)["step"] == 50
    clock.now += 9.1
    tell.on_train_batch_end(trainer(100), None)
    assert said(tmp_path) == {"state": "training", "step": 100, "steps": 200, "left": 20.0, "loss": 0.25}
    assert [p.name for p in tmp_path.iterdir()] == [NOW]
    (tmp_path / NOW).unlink()
    (tmp_path / NOW).mkdir()  # it cannot be written
    clock.now += 2
    tell.on_test_batch_end(trainer(200), None)


def test_a_run_is_called_by_what_varies():
    runs = [["model=rnn", "task.seq_len=10", f"seed={k}", "experiment=phase"] for k in range(3)]
    assert list(live.names(runs)) == ["seed=0", "seed=1", "seed=2"]
    assert list(live.names(runs[:1])) == ["model=rnn,seq_len=10,seed=0"]
    assert list(live.names([])) == []


def shown(running, ended, total, width=80, lines=24):
    console = Console(file=io.StringIO(), width=width)
    console.print(live.table(running, ended, total, 100.0, lines))
    return console.file.getvalue().splitlines()


def test_each_run_at_work_has_a_line_and_those_that_ended_are_counted(tmp_path):
    folders = {name: tmp_path / name for name in ("works", "starts", "broken", "silent", "nan")}
    now = {"state": "training", "step": 30, "steps": 200, "loss": 0.12345, "left": 61.2}
    texts = {"works": now, "silent": now, "nan": now | {"loss": float("nan"), "left": None}}
    for name, folder in folders.items():
        folder.mkdir()
        if name != "starts":
            (folder / NOW).write_text(json.dumps(texts.get(name, ""))[: -1 if name == "broken" else None])
    os.utime(folders["silent"] / NOW, (time.time() - 3600,) * 2)
    running = {folder: name for name, folder in folders.items()}
    head, *rows, last = shown(running, Counter(finished=3, failed=1), 9, width=100)
    assert head.split() == ["run", "state", "training", "step", "loss", "time", "left"]
    lines = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    assert lines.pop("silent").startswith("silent for 1:00:0")
    assert lines == {
        "works": "training 30 of 200 0.1235 0:01:01",
        "starts": "starting",
        "broken": "starting",
        "nan": "training 30 of 200 nan",
    }
    assert last == "4 of 9 runs ended (3 finished, 1 failed), 0:01:40 since the start, about 0:02:05 left"


@pytest.mark.parametrize(("width", "lines"), [(60, 10), (80, 24), (200, 60)])
def test_300_runs_fit_into_a_terminal(tmp_path, width, lines):
    running = {tmp_path / str(k): f"model=[lstm],hidden_size=128,optimizer.lr={k}" for k in range(300)}
    rows = shown(running, Counter(finished=7), 400, width, lines)
    assert len(rows) < lines
    assert all(len(row) <= width for row in rows)
    assert any(re.fullmatch(rf"and {300 - lines + 5} more", row) for row in rows)
    assert rows[1].startswith("model=[ls")


def test_the_table_is_drawn_in_place_and_where_there_is_no_terminal_not_at_all(tmp_path, monkeypatch):
    for terminal in (True, False):
        file = io.StringIO()
        made = Console(file=file, force_terminal=terminal, width=80, height=24)
        monkeypatch.setattr(live, "Console", lambda stderr, made=made: made)
        with live.Board(300) as board:
            assert board.is_shown is terminal
            for k in range(300):
                board.show({tmp_path / str(k): f"seed={k}" for k in range(k, min(k + 4, 300))}, Counter(finished=k))
            board.show({}, Counter(finished=300))
        text = file.getvalue()
        if terminal:
            assert "300 of 300 runs ended (300 finished)" in text
            assert text.count("\n") - text.count("\x1b[1A") <= 6 + 1
        else:
            assert text == ""
