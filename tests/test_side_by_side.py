"""The launcher composes the jobs of a sweep as Hydra does, only sooner, and ends those that take too long."""

import io
import json
import math
import time
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest
from hanging import hangs_or_ends
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from made_up import BARE
from omegaconf import OmegaConf, open_dict, read_write
from rich.console import Console
from sweeps import Elsewhere, SideBySide

from carousel.lab import app, folders, live, sweep
from carousel.lab.records import not_begun, read_record, write_record
from hydra_plugins._processes import Runner

JOBS = [
    ["seed=1", "model=rnn", "optimizer.lr=0.5"],
    ["seed=2", "model=rnn", "optimizer.lr=0.25", "+model.num_layers=2"],
    ["seed=3", "model=lstm", "optimizer=sgd", "~callbacks.charts", "++data_seed=4"],
    ["optimizer.lr=1", "optimizer=adam", "seed=1", "model=rnn", "task.seq_len=${batch_size}"],
    ["experiment=phase", "model=rnn_orthogonal", "model.init.gain=0.5", "~logger"],
]


@pytest.fixture
def launcher(tmp_path):
    with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
        options = [f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN"]
        config = compose("train", overrides=options, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        made = SideBySide(n_jobs=1, minutes_per_run=10)
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
        made.setup(hydra_context=context, task_function=app.run, config=config)
        yield made


def test_a_job_is_composed_as_by_hydra_itself(launcher):
    for number, overrides in enumerate([*JOBS, *JOBS]):
        expected = launcher.context.config_loader.load_sweep_config(launcher.config, overrides)
        got = launcher._compose(overrides, number)
        with read_write(got.hydra), open_dict(got.hydra):
            assert got.hydra.job.num == number
            assert got.hydra.runtime.output_dir.endswith(expected.hydra.sweep.subdir)
            expected.hydra.job.id = expected.hydra.job.num = number
            for node in (got, expected):
                node.hydra.sweep.subdir = node.hydra.runtime.output_dir = ""
        assert OmegaConf.to_yaml(got) == OmegaConf.to_yaml(expected)
    assert len(launcher.composed) == 4


def test_what_is_wrong_with_a_value_is_said_as_by_hydra_itself(launcher):
    for overrides in (["model.nope=1"], ["+optimizer.lr=1"], ["model=nope"], ["~nope"]):
        said = []
        for compose_one in (launcher.context.config_loader.load_sweep_config, launcher._compose):
            with pytest.raises(Exception) as error:  # noqa: PT011
                compose_one(*((launcher.config, overrides) if not said else (overrides, 0)))
            said.append((type(error.value), str(error.value)))
        assert said[0] == said[1]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_that_hangs_is_ended_and_the_next_one_begins(launcher, tmp_path, monkeypatch, capfd, terminal):
    screen = io.StringIO()
    made = Console(file=screen, force_terminal=True, width=80, height=24) if terminal else Console(stderr=True)
    monkeypatch.setattr(live, "Console", lambda stderr: made)
    hanging = tmp_path / "seed=0" / "result.json"

    def monotonic():  # the run has begun, and at once a thousand seconds have passed
        return time.monotonic() + 1000 * hanging.exists()

    monkeypatch.setitem(SideBySide._run.__globals__, "time", SimpleNamespace(monotonic=monotonic))
    launcher.task = hangs_or_ends
    (tmp_path / "record.json").write_text(json.dumps(BARE))
    jobs = [launcher._compose([f"seed={seed}"], seed) for seed in (0, 1)]
    launcher._run(jobs)
    records = [read_record(tmp_path / f"seed={seed}") for seed in (0, 1)]
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert records[0]["error"] == "took longer than 10 minutes"
    lines = "run 1 of 2: failed  seed=0\nrun 2 of 2: finished  seed=1\n"
    assert capfd.readouterr().err == ("" if terminal else lines)
    assert ("2 of 2 runs ended (1 failed, 1 finished)" in screen.getvalue()) is terminal


@pytest.mark.parametrize("error", [EOFError, ConnectionRefusedError])
def test_a_run_is_started_though_the_server_has_just_been_killed(launcher, tmp_path, monkeypatch, error):
    connect, errors = forkserver.connect_to_new_process, [error] * 3  # for as long as it takes to die

    def connect_or_not(fds):
        if errors:
            raise errors.pop()
        return connect(fds)

    monkeypatch.setattr(forkserver, "connect_to_new_process", connect_or_not)
    launcher.task = hangs_or_ends
    (tmp_path / "record.json").write_text(json.dumps(BARE))
    launcher._run([launcher._compose(["seed=1"], 1)])
    assert not errors
    assert read_record(tmp_path / "seed=1")["status"] == "finished"


def test_of_a_run_whose_process_is_not_quite_gone_the_end_is_recorded(launcher, tmp_path, monkeypatch):
    answers = [False, True, True]
    monkeypatch.setattr(folders, "is_busy", lambda folder: answers.pop())
    write_record(tmp_path / "seed=0", BARE | {"status": "running"})
    sweep.give_up(launcher._compose(["seed=0"], 0), tmp_path / "seed=0", "failed", "killed")
    assert read_record(tmp_path / "seed=0")["status"] == "failed"


def test_a_run_that_another_launcher_has_brought_has_its_time_limit_too(launcher, tmp_path):
    job = launcher._compose(["seed=0"], 0)
    HydraConfig.instance().set_config(job)
    with read_write(job), open_dict(job):
        del job["hydra"]
    Runner(launcher.context, hangs_or_ends, 0.0)(job)
    record = read_record(tmp_path / "seed=0")
    assert (record["status"], record["error"]) == ("failed", "took longer than 0 minutes")


class Loses(Launcher):
    """Begins the first of its runs, and fails."""

    def __init__(self, context, runner, config):
        self.config = config

    def setup(self, **_):
        pass

    def launch(self, job_overrides, initial_job_idx):
        (folder,) = (o.partition("=")[2].strip("'") for o in job_overrides[0] if o.startswith("hydra.sweep.subdir"))
        write_record(Path(self.config.hydra.sweep.dir) / folder, BARE | {"status": "running"})
        raise RuntimeError("the node is gone\nand more")


def test_what_another_launcher_loses_is_recorded_and_said(launcher, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda self, *given: Loses(*given))
    made = Elsewhere(OmegaConf.create({"_target_": "theirs.Loses"}))
    made.setup(hydra_context=launcher.context, task_function=app.run, config=launcher.config)
    done = made.launch([["seed=0"], ["seed=1"]], 0)
    assert [job.return_value for job in done] == [math.inf, math.inf]
    record = read_record(tmp_path / "seed=0")
    assert (record["status"], record["error"]) == ("failed", "lost with the process or the machine that it ran on")
    assert not_begun(tmp_path) == ["seed=1"]
    said = capfd.readouterr().err.splitlines()
    assert said[0] == f"sweep: 2 runs, by Loses, in {tmp_path}"
    assert said[1] == "Loses gave up: RuntimeError: the node is gone"


def test_the_time_limit_of_other_launchers_is_checked(launcher):
    name = r"hydra\.callbacks\.carry\.minutes_per_run"
    with pytest.raises(SystemExit, match=f"{name} must be null or a number over 0, got 0"):
        sweep.Carry(0).on_multirun_start(launcher.config)
    with pytest.raises(SystemExit, match=f"{name}: of this launcher it is hydra.launcher.minutes_per_run"):
        sweep.Carry(5).on_multirun_start(launcher.config)


def test_of_thousands_of_jobs_little_is_kept(launcher):
    job = launcher._compose(["seed=1"], 0)
    jobs = sweep.Jobs(launcher._compose([f"seed={seed}"], seed) for seed in range(20))
    assert sum(map(len, jobs._packed)) < 20 * 12_000
    assert [job.seed for job in jobs] == list(range(20))
    jobs[3] = job
    assert OmegaConf.to_yaml(jobs[3]) == OmegaConf.to_yaml(job)
