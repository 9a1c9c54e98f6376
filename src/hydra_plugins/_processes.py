"""A run of a sweep in a process of its own, on whatever machine: one that dies takes no other with it, nor whoever
waits for it.

(The underscore is for Hydra, which executes every other file here again when it looks for plugins: what was pickled
before would be of another class.)
"""

import copy
import ctypes
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write


def folder_of(job: DictConfig) -> Path:
    return Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir


class Runner:
    """Starts runs, and records how those ended that could not do so themselves.

    It is also a task itself: that of a launcher which brings each run to a machine, where the run has a process here.

    Args:
        minutes: after which a run is ended, and has failed; infinite for no such time.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, minutes: float) -> None:
        self.minutes, self.module = minutes, task.__module__
        self.given = pickle.dumps((context, task))  # here: elsewhere Hydra has loaded classes in it once more
        self.sweep = os.getpid()
        self.home, self.path = os.getcwd(), list(sys.path)  # where a user's own cells and tasks are found

    def start(self, job: DictConfig) -> BaseProcess:
        """Fork it from a server that has imported the task once, so that a run costs no import."""
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        processes: Any = multiprocessing.get_context(method)
        processes.set_forkserver_preload([self.module])
        until = time.monotonic() + 30
        while True:
            process = processes.Process(target=_work, args=(self, job), daemon=True)
            try:
                process.start()
                return process
            except (EOFError, ConnectionError):  # the server was killed; there is another when it has quite gone
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def close(self, process: BaseProcess, job: DictConfig) -> None:
        """Of a process that has ended, or is to be ended now for its time is up."""
        if process.exitcode is None:
            self.kill(process, job, "failed", self._late())
        elif process.exitcode:
            _give_up(job, "failed", _why(process.exitcode, folder_of(job)))

    def kill(self, process: BaseProcess, job: DictConfig, status: str, error: str) -> None:
        process.kill()
        process.join()
        _give_up(job, status, error)

    def _late(self) -> str:
        return f"took longer than {self.minutes:g} minutes"

    def __call__(self, cfg: DictConfig) -> None:
        """One run, from its start to its end. What it comes to, or what goes wrong, is in its record alone."""
        job: Any = copy.deepcopy(cfg)
        with read_write(job), open_dict(job):
            job.hydra = HydraConfig.get()
        own: Any = job.hydra
        with read_write(own), open_dict(own):
            for plugin in ("launcher", "sweeper"):  # of no class that Hydra may have loaded once more
                own[plugin] = OmegaConf.to_container(own[plugin], resolve=False)
        sys.path += [place for place in self.path if place not in sys.path]
        if os.getppid() == self.sweep:  # on the machine of the sweep, as joblib's; others may outlive it
            _end_with_the_parent()
        error = None
        with start(_work, self, job) as process:  # no fork: who knows what else there is in a launcher's own process
            try:
                if code := process.wait(60 * self.minutes if math.isfinite(self.minutes) else None):
                    error = _why(code, folder_of(job))
            except subprocess.TimeoutExpired:
                error = self._late()
            except Exception as problem:  # a launcher's own, as submitit's when the time that Slurm grants is up
                error = str(problem)
            finally:
                process.kill()
        if error:
            _give_up(job, "failed", error)


def _give_up(job: DictConfig, status: str, error: str) -> None:
    from carousel.lab import sweep  # here, for Hydra imports this file for every application

    sweep.give_up(job, folder_of(job), status, error)


def _why(code: int, folder: Path) -> str:
    """The last line of a run that ended by itself, or what ended it."""
    log = folder / "output.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    if code == -signal.SIGKILL:
        return "killed, probably by the system, for want of memory (run fewer at a time)"
    if code < 0:
        return f"the process was ended by a signal: {signal.strsignal(-code)}"
    return lines[-1] if code == 1 and lines else f"the process ended with code {code}"


def start(function: Callable[..., None], *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """Call a function in an interpreter of its own, which ends when this process does."""
    process: Any = subprocess.Popen(
        [sys.executable, "-m", __name__], env=os.environ | environment, stdin=subprocess.PIPE
    )
    process.stdin.write(pickle.dumps(sys.path) + pickle.dumps((function, arguments)))
    process.stdin.flush()  # and left open, for its end is the sign
    return process


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):  # Ctrl-C, and warnings that Slurm sends a whole job
        signal.signal(number, signal.SIG_IGN)
    sys.path[:] = pickle.load(sys.stdin.buffer)
    function, arguments = pickle.load(sys.stdin.buffer)
    _end_with(0)
    function(*arguments)


def _end_with_the_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; of a fork the server is the parent


def _end_with(parent: int) -> None:
    """When the process that waits for this one is gone, or the server that forked it, there is nobody to work for.

    Args:
        parent: what can be read when it is gone.
    """
    _end_with_the_parent()

    def watch() -> None:
        wait([parent])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _work(runner: Runner, job: DictConfig) -> None:
    """What a process does: one run, its output in the run's folder. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if parent := multiprocessing.parent_process():
        _end_with(parent.sentinel)
    os.chdir(runner.home)
    folder = folder_of(job)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    setup_globals()
    from carousel.commands import importing  # here, for Hydra imports this file for every application

    with importing():
        context, task = pickle.loads(runner.given)
    done = run_job(
        hydra_context=context,
        task_function=task,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    done.return_value  # noqa: B018  raises what the job raised


if __name__ == "__main__":
    _main()
