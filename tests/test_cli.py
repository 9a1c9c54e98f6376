"""The commands as people type them, in processes of their own, from another working directory."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from commands import ENVIRONMENT, HANGS, ROOT, call, command, typed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TINY = [
    "task.seq_len=10",
    "model.hidden_size=4",
    "eval_size=20",
    "trainer.val_check_interval=6",
    "trainer.max_steps=12",
]
KILLED = "killed, probably by the system, for want of memory (run fewer at a time)"
OUT_OF_MEMORY = "out of memory (run fewer at a time, or with a smaller batch_size)"
STARTED: list[subprocess.Popen] = []
KILLS = int(os.environ.get("KILLS", 2))
"""How often a sweep is killed, and its workers are, at random moments."""


def start(cwd, *arguments):
    """A command that signals reach, also where the suite itself ignores them (as under nohup, or in the background)."""
    process = subprocess.Popen(
        command("train.py", *arguments), cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
        preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)],
    )  # fmt: skip
    STARTED.append(process)
    return process


@pytest.fixture(autouse=True)
def _end_what_a_failed_test_left():
    yield
    while STARTED:
        STARTED.pop().kill()


def wait_until(condition):
    deadline = time.monotonic() + HANGS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert condition()


def records(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))}


def test_one_run_writes_its_record_and_says_what_to_open(tmp_path):
    done = typed(tmp_path, "train.py", "model=lstm", "task=adding", *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "tensorboard --logdir outputs" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["outputs"]
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    assert folder.name.split("_", 2)[2].startswith("model=lstm,task=adding,seq_len=10")
    record = records(folder)[folder.name]
    assert record["status"] == "finished"
    assert record["steps"] == 12
    assert record["config"]["model.hidden_size"] == 4
    assert {"val/loss", "test/loss", "train/loss", "val/within_0.04", "grad_norm/total"} <= set(record["metrics"])
    assert {"report.md", "results.csv", "gradient_flow.csv", "flow.csv", "metrics.csv"} <= {
        p.name for p in folder.iterdir()
    }
    assert "step" not in record["metrics"]
    losses = pd.read_csv(folder / "metrics.csv").dropna(subset="val/loss")
    assert sorted(set(losses["step"])) == [6, 12]
    assert set(pd.read_csv(folder / "flow.csv")["step"]) == {0, 12}
    events = EventAccumulator(str(folder / "lstm")).Reload()  # as TensorBoard calls it then
    assert [e.step for e in events.Scalars("1_loss/val")] == [6, 12, 12]  # none thrown away by one that came later
    assert events.Scalars("1_loss/test")[-1].value == pytest.approx(record["metrics"]["test/loss"])


def test_a_sweep_survives_runs_that_fail_and_can_be_reported_again(tmp_path):
    models = "model._target_=broken.Raises,carousel.RNN,broken.Dies,broken.Fills,broken.FillsToTheLast"
    done = call(tmp_path, "train.py", "-m", "model=rnn", models, *TINY, "hydra.sweep.dir=sweep")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: 4 of 5 runs failed"
    errors = {r["config"]["model._target_"]: r["error"] for r in records(tmp_path / "sweep").values()}
    assert errors == {
        "broken.Raises": "ValueError: in two lines",
        "carousel.RNN": None,
        "broken.Dies": KILLED,
        "broken.Fills": f"RuntimeError: {OUT_OF_MEMORY}",
        "broken.FillsToTheLast": f"MemoryError: {OUT_OF_MEMORY}",
    }
    assert "ValueError: in two lines" in done.stdout
    assert KILLED in " ".join(done.stdout.split())
    (log,) = (p for p in (tmp_path / "sweep").rglob("output.log") if "Raises" in p.parent.name)
    assert "Traceback" in log.read_text()
    before = (tmp_path / "sweep" / "results.csv").read_bytes()
    again = call(tmp_path, "report.py", "sweep")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "sweep" / "results.csv").read_bytes() == before


def test_the_same_seed_repeats_a_run_to_the_last_digit_and_alone_or_in_a_sweep_makes_no_difference(tmp_path):
    options = ["model=lstm", *TINY]
    assert call(tmp_path, "train.py", "-m", "seed=7,8", *options, "hydra.sweep.dir=sweep").returncode == 0
    assert call(tmp_path, "train.py", "seed=7", *options, "hydra.run.dir=alone").returncode == 0
    runs = {r["seed"]: r["metrics"] for r in records(tmp_path / "sweep").values()}
    (alone,) = records(tmp_path / "alone").values()
    assert alone["metrics"] == runs[7]
    assert alone["metrics"] != runs[8]
    sweep = next(p.parent for p in (tmp_path / "sweep").rglob("result.json") if "seed=7" in p.parent.name)
    pd.testing.assert_frame_equal(
        pd.read_csv(sweep / "metrics.csv"), pd.read_csv(tmp_path / "alone" / "metrics.csv"), check_exact=True
    )


def test_the_folders_of_a_sweep_say_what_varies_and_a_larger_sweep_knows_them_again(tmp_path):
    given = [
        "++model.hidden_size=4",
        "~callbacks.gates",
        "batch_size=${model.hidden_size}",
        *TINY,
        "hydra.sweep.dir=sweep",
    ]
    assert call(tmp_path, "train.py", "-m", "optimizer.lr=0.01,0.02", *given).returncode == 0
    assert set(records(tmp_path / "sweep")) == {"lr=0.01", "lr=0.02"}
    larger = ["optimizer.lr=0.02", "seed=0,1", "hydra.sweeper.max_batch_size=1"]
    done = call(tmp_path, "train.py", "-m", *larger, *given)
    assert done.returncode == 0, done.stderr
    assert "(1 are there already)" in done.stderr
    found = records(tmp_path / "sweep")
    assert {name: (r["seed"], r["config"]["batch_size"]) for name, r in found.items()} == {
        "lr=0.01": (0, 4),
        "lr=0.02": (0, 4),
        "seed=1": (1, 4),
    }
    done = call(tmp_path, "train.py", "-m", "optimizer.lr=0.01,0.02", *given, "batch_size=8")
    assert "sweep/lr=0.01 was run with batch_size=4, not 8; choose another folder" in done.stderr


EXPERIMENT = """
# @package _global_
hydra:
  mode: MULTIRUN
  sweep: {dir: sweep}
  sweeper:
    params: {seed: "0"}
    grids:
      - {model: rnn_orthogonal, model.init.gain: "0.6,0.8"}
      - {model: lstm_forget1, model.init.value: "0,1"}
"""


def test_an_experiment_may_be_a_union_of_grids(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "union.yaml").write_text(EXPERIMENT)
    searchpath = f"hydra.searchpath=[file://{tmp_path}]"
    done = call(tmp_path, "train.py", searchpath, "experiment=union", "model.init.gain=choice(0.5)", "seed=1", *TINY)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sweep" / "multirun.yaml").exists()
    rows = pd.read_csv(tmp_path / "sweep" / "results.csv")
    assert rows["label"].tolist() == [
        "lstm_forget1 value=0",
        "lstm_forget1 value=1",
        "rnn_orthogonal",
    ]
    assert set(rows["seed"]) == {1}
    assert rows["run"].iloc[2] == "model=rnn_orthogonal,gain=0.5"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model=foo"], "error: model=foo does not exist; allowed: cfc, cho_gru, cornn, custom, diagonal_gru"),
        (["task=foo"], "error: task=foo does not exist; allowed: adding, "),
        (
            ["task.seq_lenn=5"],
            "error: task.seq_lenn: no such option (did you mean seq_len?); allowed here: seq_len (a new",
        ),
        (["task.seq_len=1"], "error: task.seq_len must be an integer of at least 2, got 1"),
        (["-m", "task.seq_len=10,1"], "error: task.seq_len must be an integer of at least 2, got 1"),
        (["-m", "model=foo", "seed=1,2"], "error: model=foo does not exist"),
        (["task.seq_len="], "error: task.seq_len must be an integer, got ''"),
        (["-m", "seed=1,2", "hydra.launcher.n_jobs=0"], "error: hydra.launcher.n_jobs must be at least 1, got 0"),
        (
            ["-m", "seed=1,2", "hydra.launcher.minutes_per_run=0"],
            "error: hydra.launcher.minutes_per_run must be a number over 0, got 0",
        ),
        (["-m", "hydra.sweeper.grids=5"], "error: hydra.sweeper.grids must be a list of mappings from keys to"),
        (["-m", "hydra.sweeper.grids=[{model:foo}]"], "error: model=foo does not exist"),
        (["-m", "hydra.sweeper.grids=[{model:rnn},{task.seq_len:'10,1'}]"], "error: task.seq_len must be an integer"),
        (["model=lsmt"], "error: model=lsmt does not exist (did you mean lstm?); allowed: cfc, "),
        (["experiment=s3"], "error: experiment=s3 does not exist (did you mean reproduce/s3?); allowed: data, flow_is"),
        (
            ["experiment=reproduce/s4"],
            "error: experiment=reproduce/s4 does not exist; allowed: reproduce/adding_1997, ",
        ),
        (["modle=lstm"], "error: modle: no such option (did you mean model?); allowed here: batch_size, "),
        (["model.bidirectional=true"], "error: model.bidirectional is not set here yet: +model.bidirectional sets it"),
        (["~calbacks"], "error: Could not delete from config. 'calbacks' does not exist (did you mean callbacks?)"),
        (["optimizer=null"], "error: Config group override must be a string or a list. Got NoneType; null is for "),
        (["-m", "seed=1,2", "hydra.launcher.n_jbs=1"], "error: hydra.launcher.n_jbs: no such option (did you mean n_j"),
        (["-m", "seed=1,2", "hydra.launcher.n_jobs=1.5"], "error: hydra.launcher.n_jobs: Value '1.5' of type "),
        (
            ["-m", "seed=1,2", "hydra.launcher.minutes_per_run=nan"],
            "error: hydra.launcher.minutes_per_run must be a number over 0, got nan",
        ),
        (
            ["seed=${oc.env:NO_SUCH_SEED}"],
            'error: seed: KeyError raised while resolving interpolation: "Environment variable',
        ),
        (["hydra.run.dir=a=b"], "error: mismatched input '=' expecting <EOF>; a value with = or , in it needs quotes"),
        (["-m", "hydra.launcher.n_jobs=abc"], "error: hydra.launcher.n_jobs: Value 'abc' of type 'str' could not"),
        (
            ["optimizer=sgd", "+optimizer.lr=5"],
            "error: Could not append to config. An item is already at 'optimizer.lr'",
        ),
        (["seed=1,2"], "error: Ambiguous value for argument 'seed=1,2'; for a sweep: -m\n"),
        (
            ["-m", "optimizer.lr=interval(1,2)"],
            "error: BasicSweeper does not support sweep type : INTERVAL_SWEEP; to search an interval: hydra/sweeper=op",
        ),
        (["scheduler=none"], "error: scheduler=none does not exist (did you mean null?); allowed: cosine, one_cycle, "),
        (["--hlep"], "error: --hlep: no such flag (did you mean --help?)\n"),
        (["seed=1", "-x"], "error: -x: no such flag\n"),
    ],
)
def test_bad_input_is_one_line_and_no_run(tmp_path, arguments, line):
    done = call(tmp_path, "train.py", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not records(tmp_path)


def test_without_any_logger_and_callback_there_is_a_record_all_the_same(tmp_path):
    done = call(tmp_path, "train.py", "logger=null", "callbacks=null", "scheduler=null", *TINY, "hydra.run.dir=here")
    assert done.returncode == 0, done.stderr
    assert records(tmp_path)["here"]["status"] == "finished"
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {"result.json", "report.md"}


def test_the_help_names_what_there_is(tmp_path):
    done = call(tmp_path, "train.py", "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) < 60
    examples = [line.split("  ")[1].split()[1:] for line in lines if line.startswith("  carousel-train")]
    assert len(examples) == 4
    shown = [line.split()[0] for line in lines if re.match(r"  [a-z_.]+=", line)]
    assert len(shown) == 13
    for arguments in [*examples, shown]:
        options = [argument.split(",")[0] for argument in arguments if argument != "-m"]
        done = call(tmp_path, "train.py", *options, "--cfg", "job")
        assert done.returncode == 0, done.stderr
    groups = {line.split(":")[0]: line.split(": ")[1].split(", ") for line in lines if re.match(r"[a-z/]+: ", line)}
    there = [path for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"]
    assert {group: set(names) for group, names in groups.items()} == {
        path.name: {file.relative_to(path).with_suffix("").as_posix() for file in path.rglob("*.yaml")}
        for path in there
    }
    assert not list(tmp_path.iterdir())


def test_a_finished_run_is_not_written_over(tmp_path):
    assert call(tmp_path, "train.py", *TINY, "hydra.run.dir=here").returncode == 0
    before = (tmp_path / "here" / "result.json").read_bytes()
    again = call(tmp_path, "train.py", *TINY, "hydra.run.dir=here")
    assert again.returncode == 1
    assert again.stderr == "error: hydra.run.dir: here already holds a finished run; choose another\n"
    assert (tmp_path / "here" / "result.json").read_bytes() == before


def test_ctrl_c_keeps_what_is_finished_and_the_sweep_can_be_taken_up_again(tmp_path):
    sweep = tmp_path / "sweep"
    arguments = ["-m", "seed=0,1", *TINY, "hydra.sweep.dir=sweep", "hydra.launcher.n_jobs=1"]
    long = [a.replace("max_steps=12", "max_steps=12,100000") for a in arguments]
    process = start(tmp_path, *long)
    wait_until(lambda: sorted(r["status"] for r in records(sweep).values()) == ["finished", "running"])
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 130, err
    assert "2 of 4 runs not begun\nreport:" in out
    assert "Traceback" not in err
    assert err.startswith("sweep: 4 runs, 1 at a time, in sweep\nrun 1 of 4: finished  ")
    assert sorted(r["status"] for r in records(sweep).values()) == ["finished", "interrupted"]
    assert set(pd.read_csv(sweep / "results.csv")["status"]) == {"finished", "interrupted"}

    first = {p: p.stat().st_mtime_ns for p in sweep.rglob("result.json") if p.parent.name.endswith("max_steps=12")}
    assert call(tmp_path, "train.py", *arguments).returncode == 0
    kept = [p for p, stamp in first.items() if p.stat().st_mtime_ns == stamp]
    assert len(kept) == len(first)


def comes_further(sweep, process):
    """Wait until a run has come some way, or all have ended."""

    def written():
        return {path: path.stat().st_mtime_ns for path in sweep.glob("*/checkpoints/progress.ckpt")}

    before = written()
    wait_until(lambda: written().items() - before.items() or process.poll() is not None)


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def server(process):
    """What a sweep forks its workers from, as a list."""
    return [child for child in children(process.pid) if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()]


def workers(process):
    return [worker for pid in server(process) for worker in children(pid)]


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def scalars(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same(killed, whole):
    """That two sweeps have come to the same, times aside."""
    texts = [(sweep / "report.md").read_text().splitlines() for sweep in (killed, whole)]
    without = [[line for line in text if "of computing" not in line] for text in texts]
    assert without[0] == without[1]
    for name in ("results", "gradient_flow", "loss_curves", "measurements"):
        tables = [pd.read_csv(sweep / f"{name}.csv") for sweep in (killed, whole)]
        pd.testing.assert_frame_equal(
            *(table.drop(columns=["wall_time_s", "pid"], errors="ignore") for table in tables), check_exact=True
        )
    files = [{p.relative_to(sweep) for p in sweep.rglob("*") if "events" not in p.name} for sweep in (killed, whole)]
    assert files[0] == files[1]
    for name in records(whole):
        assert scalars(killed / name) == scalars(whole / name)


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to find processes in")
def test_a_sweep_that_is_killed_and_whose_workers_are_goes_on_as_if_nothing_had_been(tmp_path):
    arguments = ["-m", "task=japanese_vowels", "model.hidden_size=4", "seed=0,1", "trainer.max_steps=20,400"]
    arguments += ["trainer.val_check_interval=20", "callbacks.progress.every_seconds=0.1", "hydra.sweep.dir=sweep"]
    killed, whole = (tmp_path / name / "sweep" for name in ("killed", "whole"))
    killed.parent.mkdir()
    whole.parent.mkdir()
    begin = time.monotonic()
    process = start(whole.parent, *arguments)
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err
    seconds = time.monotonic() - begin

    chosen = random.Random(0)
    for number in range(KILLS):
        begin = time.monotonic()
        process = start(killed.parent, *arguments)
        moments = sorted(seconds * chosen.random() for _ in range(2))
        for moment, victims in zip(moments, (chosen.choice((workers, server)), None), strict=True):
            if number % 2:  # at any time: as the command starts, in its runs, as it reports
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(begin + moment - time.monotonic(), 0))
            else:  # for certain in a run
                comes_further(killed, process)
                time.sleep(0.3 * chosen.random())
            kill(victims(process)) if victims else process.kill()
        _, err = process.communicate(timeout=HANGS)
        assert "Traceback" not in err
        if process.returncode == 0:  # it had come to its end
            assert_same(killed, whole)
            shutil.rmtree(killed)
    done = [killed / name for name, r in records(killed).items() if r["status"] == "finished"]
    results = [p for folder in done for p in folder.rglob("*") if p.is_file() and not p.name.startswith("progress")]
    before = [p.stat().st_mtime_ns for p in results]
    assert call(killed.parent, "train.py", *arguments).returncode == 0
    assert [p.stat().st_mtime_ns for p in results] == before
    assert_same(killed, whole)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_about_the_end_of_its_record_loses_nothing(tmp_path, when):
    dies = ["+callbacks.dies._target_=broken.DiesAtTheEnd", f"+callbacks.dies.when={when}"]
    arguments = ["-m", "seed=0,1", *TINY, *dies, "callbacks.progress.every_seconds=0", "hydra.sweep.dir=sweep"]
    call(tmp_path, "train.py", *arguments)
    assert (tmp_path / "died").exists()
    done = call(tmp_path, "train.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert {record["status"] for record in records(tmp_path).values()} == {"finished"}
    one, other = (scalars(folder) for folder in (tmp_path / "sweep").glob("*seed=*"))
    assert {tag: [step for step, _ in curve] for tag, curve in one.items()} == {
        tag: [step for step, _ in curve] for tag, curve in other.items()
    }
    assert one["outcome/steps"] == [(12, 12.0)]
    assert not list(tmp_path.rglob("progress*.ckpt"))


@pytest.mark.parametrize(("number", "presses"), [(signal.SIGINT, 3), (signal.SIGHUP, 1)])
def test_ctrl_c_on_one_run_leaves_its_record(tmp_path, number, presses):
    long = [a.replace("max_steps=12", "max_steps=100000") for a in TINY]
    process = start(tmp_path, *long, "hydra.run.dir=here")
    wait_until((tmp_path / "here" / "flow.csv").exists)
    time.sleep(1)
    for _ in range(presses):
        process.send_signal(number)
        time.sleep(0.02)
    out, err = process.communicate(timeout=HANGS)
    assert "Traceback" not in err
    assert process.returncode == 130
    assert "report:" in out
    (record,) = records(tmp_path / "here").values()
    assert record["status"] == "interrupted"
    measured = (tmp_path / "here" / "flow.csv").read_bytes()
    assert call(tmp_path, "report.py", "here").returncode == 0
    assert (tmp_path / "here" / "flow.csv").read_bytes() == measured


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to find processes in")
def test_workers_end_with_the_sweep_and_a_folder_in_use_is_left_alone(tmp_path):
    sweep = tmp_path / "sweep"
    long = [a.replace("max_steps=12", "max_steps=100000") for a in TINY]
    process = start(tmp_path, "-m", "seed=0,1", *long, "hydra.sweep.dir=sweep", "hydra.launcher.n_jobs=2")
    wait_until(lambda: len(records(sweep)) == 2)
    done = call(tmp_path, "train.py", "-m", "seed=2", *TINY, "hydra.sweep.dir=sweep")
    assert done.stderr == "error: hydra.sweep.dir: another process is writing to sweep; choose another folder\n"
    workers = [record["pid"] for record in records(sweep).values()]
    process.kill()
    process.communicate(timeout=HANGS)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_diverged_run_does_not_spoil_the_report(tmp_path):
    rates = ["optimizer=sgd", "optimizer.lr=1e-3,1e30", "trainer.gradient_clip_val=null"]
    done = call(tmp_path, "train.py", "-m", *rates, *TINY, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert sorted(r["status"] for r in records(tmp_path / "sweep").values()) == ["diverged", "finished"]
    text = (tmp_path / "sweep" / "report.md").read_text()
    assert re.search("diverged: train/loss is .* at training step [12]$", text, re.M)
    assert (tmp_path / "sweep" / "gradient_flow.png").exists()


def test_a_run_in_two_processes_is_one_run_alone_and_in_a_sweep(tmp_path):
    options = [*TINY, "trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    commands = {"alone": ["hydra.run.dir=alone"], "sweep": ["-m", "seed=0", "hydra.sweep.dir=sweep"]}
    for name, others in commands.items():
        done = call(tmp_path, "train.py", *others, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report:") == 1
        assert "no hyperparameters" not in done.stderr
        (record,) = records(tmp_path / name).values()
        assert record["status"] == "finished"
        assert record["steps"] == 12
        (folder,) = (path.parent for path in (tmp_path / name).rglob("result.json"))
        assert {path.name.split(".")[-2] for path in folder.rglob("events.*[0-9]")} == {str(record["pid"])}
        commands[name] = record["metrics"], *((folder / file).read_bytes() for file in ("flow.csv", "probes.csv"))
    assert commands["alone"] == commands["sweep"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "sweep"]


def test_every_batch_of_a_sweep_is_run_though_one_before_it_failed(tmp_path):
    models = "model._target_=broken.Raises,carousel.RNN"
    arguments = ["-m", "model=rnn", models, *TINY, "hydra.sweep.dir=sweep", "hydra.sweeper.max_batch_size=1"]
    done = call(tmp_path, "train.py", *arguments)
    assert done.returncode == 1
    assert sorted(r["status"] for r in records(tmp_path / "sweep").values()) == ["failed", "finished"]


def test_the_report_on_nothing_is_one_line(tmp_path):
    done = call(tmp_path, "report.py", "nowhere")
    assert done.returncode == 1
    assert done.stderr == "error: no run (result.json) under nowhere\n"


def test_the_bench_prints_every_layer(tmp_path, monkeypatch, capsys):
    from carousel.lab import bench

    monkeypatch.setattr(bench, "SHAPES", ((2, 3, 2, 4), (1, 2, 2, 3)))
    monkeypatch.setattr(bench, "afresh", lambda call, **_: 2.0 if "'LSTM'" in call else 4.0)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--repeats", "2", "--threads", "1", "--csv", str(tmp_path / "b.csv")])
    before = torch.get_num_threads()
    try:
        bench.main()
    finally:
        torch.set_num_threads(before)
    printed = capsys.readouterr().out
    assert "geometric mean" in printed
    assert "0.50" in printed  # of nn.LSTM's memory
    rows = pd.read_csv(tmp_path / "b.csv").set_index(["B", "layer", "work"])
    assert len(rows) == 2 * (2 * len(bench.LAYERS) + 1)
    torchs = rows[rows.index.get_level_values("layer").str.startswith("nn.")]
    assert torchs["speed"].eq(1).all()
    for name, share in (("GRU", 1), ("MGU", 0.5)):
        rival = {"GRU": "nn.GRU", "MGU": "nn.LSTM"}[name]
        ratio = share * rows.loc[(2, rival, "forward"), "ms"] / rows.loc[(2, name, "forward"), "ms"]
        assert rows.loc[(2, name, "forward"), "speed"] == pytest.approx(ratio, rel=0.01)


@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
def test_what_the_bench_measures_in_a_process_of_its_own(tmp_path):
    from carousel.lab import bench

    cold, warm = (bench.afresh("first_result()", XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
    assert cold > 2 * warm > 0  # built once
    if Path("/proc/self/clear_refs").exists():
        more = bench.afresh("-grown('LSTM', (8, 10, 2, 64)) + grown('LSTM', (8, 2000, 2, 64))")
        assert more > 2000 * 8 * 64 * 4 * 5 / 2**20 / 2  # five values are kept for each unit and step


@pytest.mark.parametrize("model", ["lstm", "nn_gru"])
def test_several_layers_in_both_directions_are_measured_and_reported(tmp_path, model):
    options = ["+model.num_layers=2", "+model.bidirectional=true", "callbacks=laboratory", "hydra.run.dir=here"]
    done = call(tmp_path, "train.py", f"model={model}", *options, *TINY)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "here" / "report.md").read_text()
    assert "could not be drawn" not in report
    flow = pd.read_csv(tmp_path / "here" / "flow.csv")
    assert set(zip(flow["layer"], flow["direction"], strict=True)) == {
        (k, d) for k in (0, 1) for d in ("forward", "reverse")
    }


def test_a_run_that_diverges_under_every_measure_is_diverged_and_reported(tmp_path):
    options = ["optimizer=sgd", "optimizer.lr=1e30", "callbacks=laboratory", "hydra.run.dir=here"]
    done = call(tmp_path, "train.py", *options, *TINY)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path / "here").values()
    assert record["status"] == "diverged"
    assert record["steps"] == 2
    assert "diverged: train/loss is" in (tmp_path / "here" / "report.md").read_text()


def test_a_report_can_be_written_elsewhere(tmp_path):
    assert call(tmp_path, "train.py", *TINY, "optimizer.lr=1e9", "hydra.run.dir=here").returncode == 0
    before = (tmp_path / "here" / "report.md").read_bytes()
    (tmp_path / "here" / "report.md").write_text("mine")
    again = call(tmp_path, "report.py", "here")
    assert again.returncode == 1
    assert "report:  " not in again.stdout
    said = " ".join(again.stdout.split())
    assert "warning: no report on here: " in said
    assert "here holds report.md" in said
    assert (tmp_path / "here" / "report.md").read_text() == "mine"
    elsewhere = call(tmp_path, "report.py", "here", "--output", "there")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert "report:      there/report.md\npage:        there/report.html\n" in elsewhere.stdout
    assert (tmp_path / "there" / "report.md").read_bytes().replace(b"<../here>", b"<.>") == before
