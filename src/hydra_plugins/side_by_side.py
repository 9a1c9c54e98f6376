"""The launcher that runs the jobs of a sweep side by side on one machine, with a table of them; and the one that has
another launcher bring them to many.

They stand here because Hydra takes launchers from the namespace `hydra_plugins` alone.
"""

import copy
import functools
import itertools
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hydra_plugins._processes import Runner, folder_of


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
        self.n_jobs, self.minutes = n_jobs or cores or 1, minutes_per_run or math.inf
        self.how = f"{self.n_jobs} at a time"

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
        runs = list(dict.fromkeys(map(folder_of, jobs)))
        app.launched.setdefault(folder, []).extend(runs)
        records.list_runs(folder, [str(run.relative_to(folder)) for run in runs])
        kept = len(runs) - len(todo)
        _say(f"sweep: {len(todo)} runs, {self.how}, in {folder}" + f" ({kept} are there already)" * (kept > 0))
        self._run(todo)
        returns = []
        for overrides, job in zip(job_overrides, jobs, strict=True):
            returns.append(JobReturn(overrides, status=JobStatus.COMPLETED))  # without its whole configuration
            returns[-1].working_dir = str(folder_of(job))
            returns[-1].return_value = records.outcome(folder_of(job))
        return returns

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """A job's configuration. Hydra composes each anew, of a dozen files in 0.1 s: here all that differ in values
        alone share that."""
        loader: Any = self.context.config_loader
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
        own = [o for o in parsed if not o.is_hydra_override()]
        values = [o for o in own if not self.options(o.key_or_group)]
        choices = tuple(str(o.input_line) for o in parsed if o not in values)
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
            job.hydra.runtime.output_dir = str(folder_of(job).absolute())
        return job

    def _run(self, jobs: Any) -> None:
        from carousel.lab import live

        runner = Runner(self.context, self.task, self.minutes)
        waiting = zip(_names(jobs), jobs, strict=True)
        running: dict[BaseProcess, tuple[str, DictConfig, float]] = {}
        ended: Counter[str] = Counter()
        with live.Board(len(jobs)) as board:
            try:
                while True:
                    for name, job in itertools.islice(waiting, self.n_jobs - len(running)):
                        running[runner.start(job)] = name, job, time.monotonic()
                    board.show({folder_of(job): name for name, job, _ in running.values()}, ended)
                    if not running:
                        break
                    wait([process.sentinel for process in running], timeout=1)
                    for process, (_, job, begin) in list(running.items()):
                        late = time.monotonic() - begin > 60 * self.minutes
                        if process.exitcode is None and not late:
                            continue
                        del running[process]
                        runner.close(process, job)
                        _tell(board, ended, job.hydra.sweep.subdir, _status(folder_of(job)), len(jobs))
            except KeyboardInterrupt:
                for process, (_, job, _) in running.items():
                    runner.kill(process, job, "interrupted", "stopped by the user")
                raise


class Elsewhere(SideBySide):
    """Checks a sweep's jobs, keeps its books and shows it as the other one does, but has a launcher of Hydra's bring
    the runs to where they run: joblib's, Ray's, submitit's, any. There, too, each has a process of its own.

    Args:
        launcher: the configuration of the other one, which has its own say in how many run at a time.
    """

    def __init__(self, launcher: DictConfig, minutes_per_run: float | None = None) -> None:
        super().__init__(None, minutes_per_run)
        self.other, self.name = launcher, launcher._target_.rpartition(".")[2]
        self.how = f"by {self.name}"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        runner = Runner(hydra_context, task_function, self.minutes)
        context = HydraContext(hydra_context.config_loader, Callbacks())  # those of a job are called in its process
        with read_write(config.hydra):
            config.hydra.launcher = self.other
        self.launcher = Plugins.instance().instantiate_launcher(context, runner, config)

    def _run(self, jobs: Any) -> None:
        from carousel.lab import live

        over = threading.Event()
        with live.Board(len(jobs)) as board:
            watch = threading.Thread(target=_watch, args=(jobs, board, over))
            watch.start()
            try:
                for done in self.launcher.launch([_overrides(job) for job in jobs], 0) if jobs else ():
                    done.return_value  # noqa: B018  raises what did not come as far as the run
            except KeyboardInterrupt:
                _close(jobs, "interrupted", "stopped by the user")
                _say(f"stopped; what {self.name} has queued elsewhere is for its own tools to end")
                raise
            except Exception as error:  # of no run, for a run's are in its record
                line = (str(error).strip().splitlines() or [""])[0]
                _say(f"{self.name} gave up: {type(error).__name__}: {line}")
                _close(jobs, "failed", "lost with the process or the machine that it ran on")
            finally:
                over.set()
                watch.join()


def _names(jobs: Iterable[DictConfig]) -> Iterator[str]:
    from carousel.lab import live

    return live.names([_asked(job) for job in jobs])


def _asked(job: DictConfig) -> Any:
    """A job's options as they were given, interpolations and all."""
    return OmegaConf.to_container(job.hydra.overrides.task, resolve=False)


def _overrides(job: DictConfig) -> list[str]:
    """What makes another launcher compose the same job: its options, and the folder that it has been given."""
    places = {"dir": str(Path(job.hydra.sweep.dir).absolute()), "subdir": job.hydra.sweep.subdir}
    quoted = {key: place.replace("'", r"\'") for key, place in places.items()}
    return [*_asked(job), *(f"hydra.sweep.{key}='{place}'" for key, place in quoted.items())]


def _close(jobs: list[DictConfig], status: str, error: str) -> None:
    """Record how those ended that had begun and are at work no more."""
    from carousel.lab import sweep

    until = time.monotonic() + 3  # for all of them together
    for job in (job for job in jobs if _status(folder_of(job)) == "running"):
        sweep.give_up(job, folder_of(job), status, error, until)


def _watch(jobs: list[DictConfig], board, over: threading.Event) -> None:
    """Show how the runs get on, by what they write to their folders, until all is over."""

    places = {folder_of(job): job.hydra.sweep.subdir for job in jobs}
    names = dict(zip(places, _names(jobs), strict=True))
    before = {folder: _written(folder) for folder in places}  # by an earlier attempt
    ended: Counter[str] = Counter()
    last = False
    while not last:
        last = over.wait(1)
        changed = [folder for folder in places if _written(folder) != before[folder]]
        running = {}
        for folder in changed:
            if (status := _status(folder)) == "running":
                running[folder] = names[folder]
            else:
                _tell(board, ended, places.pop(folder), status, len(jobs))
        board.show(running, ended)


def _written(folder: Path) -> int | None:
    from carousel.lab.records import RECORD

    try:
        return (folder / RECORD).stat().st_mtime_ns
    except OSError:
        return None


def _tell(board, ended: Counter[str], place: str, status: str, total: int) -> None:
    ended[status] += 1
    if not board.is_shown:
        _say(f"run {ended.total()} of {total}: {status}  {place}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _status(folder: Path) -> str:
    from carousel.lab import records

    try:
        return records.read_record(folder)["status"]
    except (OSError, records.Unreadable):
        return "no record"
