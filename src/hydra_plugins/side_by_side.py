"""A Hydra launcher that runs the jobs of a sweep side by side, each in a process of its own, with a table of them.

It stands here because Hydra takes launchers from the namespace `hydra_plugins` alone. Every process is forked from
a server that has imported the task once, so a job costs no import, and one that dies takes no other with it.
"""

import copy
import ctypes
import functools
import itertools
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write


@dataclass
class SideBySideConf:
    _target_: str = "hydra_plugins.side_by_side.SideBySide"
    n_jobs: int | None = None  # processes at a time; None: one for each core
    minutes_per_run: float | None = None  # after which a run is ended, and has failed


ConfigStore.instance().store(group="hydra/launcher", name="side_by_side", node=SideBySideConf, provider="carousel")


class SideBySide(Launcher):
    def __init__(self, n_jobs: int | None, minutes_per_run: float | None = None) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if n_jobs is not None and n_jobs < 1:
            raise SystemExit(f"error: hydra.launcher.n_jobs must be at least 1, got {n_jobs}")
        if minutes_per_run is not None and not minutes_per_run > 0:
            raise SystemExit(f"error: hydra.launcher.minutes_per_run must be a number over 0, got {minutes_per_run:g}")
        self.n_jobs, self.minutes = n_jobs or cores, minutes_per_run or math.inf

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        self.options = functools.cache(hydra_context.config_loader.get_group_options)  # none for what is no group
        self.composed: dict[tuple[str, ...], DictConfig] = {}  # by the choices of groups

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from carousel.lab import app, records, sweep  # here, for Hydra imports this file for every application

        setup_globals()
        folder = Path(self.config.hydra.sweep.dir)
        if len(job_overrides) > 20:
            _say(f"sweep: checking {len(job_overrides)} runs for {folder}")
        jobs = sweep.Jobs(self._compose(overrides, initial_job_idx + k) for k, overrides in enumerate(job_overrides))
        todo = sweep.prepare(jobs, _say)
        runs = list(dict.fromkeys(map(_folder, jobs)))
        app.launched.setdefault(folder, []).extend(runs)
        records.list_runs(folder, [str(run.relative_to(folder)) for run in runs])
        kept = len(runs) - len(todo)
        _say(
            f"sweep: {len(todo)} runs, {self.n_jobs} at a time, in {folder}"
            + f" ({kept} are there already)" * (kept > 0)
        )
        self._run(todo, sweep.give_up)
        returns = []
        for overrides, job in zip(job_overrides, jobs, strict=True):
            returns.append(JobReturn(overrides, status=JobStatus.COMPLETED))  # without its whole configuration
            returns[-1].return_value = records.outcome(_folder(job))
        return returns

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """A job's configuration. Hydra composes each anew, of a dozen files in 0.1 s: here all that differ in values
        alone share that."""
        loader = self.context.config_loader
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
        own = [o for o in parsed if not o.is_hydra_override()]
        values = [o for o in own if not self.options(o.key_or_group)]
        choices = tuple(o.input_line for o in parsed if o not in values)
        if choices not in self.composed:
            self.composed[choices] = loader.load_sweep_config(self.config, list(choices))
        job = copy.deepcopy(self.composed[choices])
        loader._apply_overrides_to_config(values, job)
        with read_write(job.hydra), open_dict(job.hydra):
            job.hydra.overrides.task = [o.input_line for o in own]
            job.hydra.job.config.override_dirname = self.config.hydra.job.config.override_dirname  # what all share
            job.hydra.job.override_dirname = get_overrides_dirname(own, **job.hydra.job.config.override_dirname)
            job.hydra.job.id = job.hydra.job.num = number
            job.hydra.sweep.dir = self.config.hydra.sweep.dir  # of all, whatever the time of day
        HydraConfig.instance().set_config(job)  # what the interpolations ${hydra:...} refer to
        with read_write(job.hydra), open_dict(job.hydra):
            job.hydra.sweep.subdir = job.hydra.sweep.subdir
            job.hydra.runtime.output_dir = str(_folder(job).absolute())
        return job

    def _run(self, jobs: list[DictConfig], give_up) -> None:
        from carousel.lab import live

        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        processes = multiprocessing.get_context(method)
        processes.set_forkserver_preload([self.task.__module__])
        given = [OmegaConf.to_container(job.hydra.overrides.task, resolve=False) for job in jobs]
        waiting = zip(live.names(given), jobs, strict=True)
        running: dict[multiprocessing.Process, tuple[str, DictConfig, float]] = {}
        ended: Counter[str] = Counter()
        with live.Board(len(jobs)) as board:
            try:
                while True:
                    for name, job in itertools.islice(waiting, self.n_jobs - len(running)):
                        process = processes.Process(target=_work, args=(self.context, job, self.task), daemon=True)
                        process.start()
                        running[process] = name, job, time.monotonic()
                    board.show({_folder(job): name for name, job, _ in running.values()}, ended)
                    if not running:
                        break
                    wait([process.sentinel for process in running], timeout=1)
                    for process, (_, job, begin) in list(running.items()):
                        late = time.monotonic() - begin > 60 * self.minutes
                        if process.exitcode is None and not late:
                            continue
                        del running[process]
                        if error := self._how_it_failed(process, _folder(job)):
                            give_up(job, _folder(job), "failed", error)
                        ended[status := _status(_folder(job))] += 1
                        if not board.is_shown:
                            _say(f"run {ended.total()} of {len(jobs)}: {status}  {job.hydra.sweep.subdir}")
            except KeyboardInterrupt:
                for process, (_, job, _) in running.items():
                    process.kill()
                    process.join()
                    give_up(job, _folder(job), "interrupted", "stopped by the user")
                raise

    def _how_it_failed(self, process: multiprocessing.Process, folder: Path) -> str | None:
        """Of a process that has ended, or is to be ended now."""
        if process.exitcode is None:
            process.kill()
            process.join()
            return f"took longer than {self.minutes:g} minutes"
        return _why(process.exitcode, folder) if process.exitcode else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _status(folder: Path) -> str:
    from carousel.lab import records

    try:
        return records.read_record(folder)["status"]
    except (OSError, records.Unreadable):
        return "no record"


def _folder(job: DictConfig) -> Path:
    return Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir


def _why(code: int, folder: Path) -> str:
    """The last line of a job that ended by itself, or what ended it."""
    log = folder / "output.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    if code == -signal.SIGKILL:
        return "killed, probably by the system, for want of memory (fewer runs at a time: hydra.launcher.n_jobs)"
    if code < 0:
        return f"the process was ended by a signal: {signal.strsignal(-code)}"
    return lines[-1] if code == 1 and lines else f"the process ended with code {code}"


def _end_with_the_parent() -> None:
    """When the sweep's process is gone, or the server that forked this one, there is nobody to work for."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; the server is the parent in the system's eyes
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


def _work(context: HydraContext, job: DictConfig, task: TaskFunction) -> None:
    """What a process does: one job, its output in the job's folder. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_the_parent()
    folder = _folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    setup_globals()
    done = run_job(
        hydra_context=context,
        task_function=task,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    done.return_value  # noqa: B018  raises what the job raised
