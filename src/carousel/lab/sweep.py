"""A sweep: its jobs checked before any of them starts, and which of them are still to be run."""

import contextlib
import os
import pickle
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from . import checks, folders, progress, records
from .app import build, configuration, new_record
from .environment import environment
from .options import OptionError


class Carry(Callback):
    """Puts our own launcher around any other, which then has the runs to carry and nothing else to see to.

    Args:
        minutes_per_run: after which a run is ended, and has failed; for a launcher that has no such option.
    """

    def __init__(self, minutes_per_run: float | None = None) -> None:
        self.minutes = minutes_per_run

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        name, minutes = "hydra.callbacks.carry.minutes_per_run", self.minutes
        if minutes is not None and (type(minutes) not in (int, float) or not minutes > 0):
            raise OptionError(f"{name} must be null or a number over 0, got {minutes!r}")
        launcher: Any = OmegaConf.to_container(config.hydra.launcher, resolve=False)
        if launcher["_target_"] != "hydra_plugins.side_by_side.SideBySide":
            if "ray" in launcher:  # its plugin gives a size of its own, which Ray refuses where it runs already
                launcher["ray"]["init"].setdefault("object_store_memory", None)
            ours = {"_target_": "hydra_plugins.side_by_side.Elsewhere", "_recursive_": False}
            with read_write(config.hydra):
                config.hydra.launcher = ours | {"launcher": launcher, "minutes_per_run": minutes}
        elif minutes is not None:
            raise OptionError(f"{name}: of this launcher it is hydra.launcher.minutes_per_run")


class Jobs:
    """The configurations of a sweep's jobs, kept small: each consists of hundreds of objects, and jobs may be
    thousands. One that is taken out is a copy; what is changed in it has to be put back."""

    def __init__(self, jobs: Iterable[DictConfig]) -> None:
        self._packed = [self._pack(job) for job in jobs]

    def _pack(self, job: DictConfig) -> bytes:
        return zlib.compress(pickle.dumps(job), level=1)

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[DictConfig]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> DictConfig:
        return pickle.loads(zlib.decompress(self._packed[k]))

    def __setitem__(self, k: int, job: DictConfig) -> None:
        self._packed[k] = self._pack(job)


def _identity(config: dict[str, object]) -> int:
    return hash(frozenset((key, repr(value) if isinstance(value, list) else value) for key, value in config.items()))


def prepare(jobs: list[DictConfig] | Jobs, say: Callable[[str], None] = lambda line: None) -> list[DictConfig] | Jobs:
    """Check a sweep's jobs. Two of one configuration are one run: the second gets the first's folder. So does one whose
    folder has another name in an earlier form of the sweep, in which other options varied.

    Returns:
        Those that have no result yet.

    Raises:
        OptionError: one cannot be run, two would share a folder, a folder is in use, or it holds the result of
            another configuration.
    """
    there = _there(Path(jobs[0].hydra.sweep.dir))
    first: dict[int, str] = {}  # by configuration: where it is
    distinct: dict[int, str] = {}  # by the job's number
    built: set[int | str] = set()  # configurations but for their seeds, and loggers, which most of them share
    files: list[str] = []
    for k, job in enumerate(jobs):
        HydraConfig.instance().set_config(job)
        checks.check(job, folders.parse(job.hydra.overrides.task))
        config = configuration(job, Path(job.hydra.runtime.output_dir))
        subdir, known = job.hydra.sweep.subdir, there.get(identity := _identity(config), ())
        if identity not in first:
            first[identity] = distinct[k] = known[0] if known and subdir not in known else subdir
            but_seeds = _identity({key: v for key, v in config.items() if key not in ("seed", "data_seed")})
            loggers = str(job.get("logger"))
            if not {but_seeds, loggers} <= built:
                build(job, loggers=loggers not in built)
                built |= {but_seeds, loggers}
            callbacks = [node for node in (job.get("callbacks") or {}).values() if isinstance(node, DictConfig)]
            paths = {node.get(option) for node in callbacks for option in ("path", "dirpath")}
            files += map(str, filter(None, paths))
        if subdir != first[identity]:
            _move(job, first[identity])
            jobs[k] = job
        if (k + 1) % 100 == 0:
            say(f"checked {k + 1} of {len(jobs)} runs")
    for name, places in (("hydra.sweep.subdir", distinct.values()), ("callbacks", files)):
        if twice := sorted(place for place, count in Counter(places).items() if count > 1):
            raise OptionError(f"{name}: several runs would be written to {', '.join(twice)}")
    return type(jobs)(job for k, job in enumerate(jobs) if k in distinct and not _has_result(job, say))


def _there(folder: Path) -> dict[int, list[str]]:
    """The runs that a sweep's folder holds: their folders' names, by their configuration."""
    found: dict[int, list[str]] = {}
    for path in sorted(folder.glob(f"*/{records.RECORD}")):
        with contextlib.suppress(records.Unreadable):
            found.setdefault(_identity(records.read_record(path.parent)["config"]), []).append(path.parent.name)
    return found


def _move(job: DictConfig, subdir: str) -> None:
    with read_write(job.hydra), open_dict(job.hydra):
        job.hydra.sweep.subdir = subdir
        job.hydra.runtime.output_dir = str((Path(job.hydra.sweep.dir) / subdir).absolute())


def _has_result(job: DictConfig, say: Callable[[str], None]) -> bool:
    folder = Path(os.path.relpath(job.hydra.runtime.output_dir))
    if not folder.exists():
        return False
    if folders.is_busy(folder):
        raise OptionError(f"hydra.sweep.dir: another process is writing to {folder}; choose another folder")
    if wrong := folders.set_aside(folder):
        say(f"set aside, and done anew: {wrong}")
        return False
    if not (folder / records.RECORD).exists():
        folders.of_a_run(folder, "hydra.sweep.dir")
        return False
    ended = records.read_record(folder)["status"] in folders.ENDED
    if not ended and not progress.under_way(folder):
        return False
    HydraConfig.instance().set_config(job)
    config = configuration(job, Path(job.hydra.runtime.output_dir))
    record = folders.check_configuration(folder, config, "hydra.sweep.dir")
    for key, was in record.get("versions", {}).items():
        if was != (now := environment().get(key)):  # in the same words for each run: said once
            warnings.warn(
                f"some of the results that are there already were made with {key} {was}, not {now}", stacklevel=1
            )
    if ended:
        progress.forget(folder)  # its process may have been killed before it came to this
    else:
        for line in progress.check(folder)[2]:  # here, for the run's own warnings go to its folder
            say(f"set aside: {line}")
    return ended


def give_up(job: DictConfig, folder: Path, status: str, error: str, until: float | None = None) -> None:
    """Record how a run ended whose process could not do so itself; not of one that another process is at work on.

    Args:
        until: when, by `time.monotonic`, a process that is to end has ended; by default in three seconds.
    """
    until = time.monotonic() + 3 if until is None else until
    while folders.is_busy(folder):
        if time.monotonic() >= until:
            return
        time.sleep(0.1)
    HydraConfig.instance().set_config(job)
    try:
        (folder / records.NOW).unlink(missing_ok=True)
        try:
            record = records.read_record(folder)
        except (FileNotFoundError, records.Unreadable):
            record = new_record(job, job.hydra, Path(job.hydra.runtime.output_dir))
        if record["status"] == "running":
            records.write_record(folder, record | {"status": status, "error": error})
    except OSError as problem:
        warnings.warn(f"{folder}: {problem.strerror}: its record is not up to date", stacklevel=1)
