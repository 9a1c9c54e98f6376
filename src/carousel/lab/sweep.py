"""A sweep: its jobs checked before any of them starts, and which of them are still to be run."""

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from . import checks, folders, progress, records
from .app import build, configuration, new_record
from .environment import environment
from .options import OptionError


def _identity(config: dict[str, object]) -> frozenset:
    return frozenset((key, repr(value) if isinstance(value, list) else value) for key, value in config.items())


def prepare(jobs: list[DictConfig], say: Callable[[str], None] = lambda line: None) -> list[DictConfig]:
    """Check a sweep's jobs. Two of one configuration are one run: the second gets the first's folder. So does one whose
    folder has another name in an earlier form of the sweep, in which other options varied.

    Returns:
        Those that have no result yet.

    Raises:
        OptionError: one cannot be run, two would share a folder, a folder is in use, or it holds the result of
            another configuration.
    """
    first: dict[frozenset, DictConfig] = {}
    there = _there(Path(jobs[0].hydra.sweep.dir))
    built: set[frozenset] = set()
    configs, files = [], []
    for k, job in enumerate(jobs):
        HydraConfig.instance().set_config(job)
        checks.check(job, folders.parse(job.hydra.overrides.task))
        config = configuration(job, Path(job.hydra.runtime.output_dir))
        twin = first.setdefault(identity := _identity(config), job)
        if twin is job:
            if job.hydra.sweep.subdir not in (places := there.get(identity, [job.hydra.sweep.subdir])):
                _move(job, places[0])
            but_seeds = _identity({key: v for key, v in config.items() if key not in ("seed", "data_seed")})
            if but_seeds not in built:
                build(job, loggers=False)
                built.add(but_seeds)
            configs.append(config)
            callbacks = [node for node in (job.get("callbacks") or {}).values() if isinstance(node, DictConfig)]
            paths = {node.get(option) for node in callbacks for option in ("path", "dirpath")}
            files += map(str, filter(None, paths))
        else:
            _move(job, twin.hydra.sweep.subdir)
        if (k + 1) % 100 == 0:
            say(f"checked {k + 1} of {len(jobs)} runs")
    distinct = list(first.values())
    subdirs = [job.hydra.sweep.subdir for job in distinct]
    for name, places in (("hydra.sweep.subdir", subdirs), ("callbacks", files)):
        if twice := sorted(place for place, count in Counter(places).items() if count > 1):
            raise OptionError(f"{name}: several runs would be written to {', '.join(twice)}")
    return [
        job
        for job, config in zip(distinct, configs, strict=True)
        if not _has_result(Path(os.path.relpath(job.hydra.runtime.output_dir)), config, say)
    ]


def _there(folder: Path) -> dict[frozenset, list[str]]:
    """The runs that a sweep's folder holds: their folders' names, by their configuration."""
    found: dict[frozenset, list[str]] = {}
    for path in sorted(folder.glob(f"*/{records.RECORD}")):
        with contextlib.suppress(records.Unreadable):
            found.setdefault(_identity(records.read_record(path.parent)["config"]), []).append(path.parent.name)
    return found


def _move(job: DictConfig, subdir: str) -> None:
    with read_write(job.hydra), open_dict(job.hydra):
        job.hydra.sweep.subdir = subdir
        job.hydra.runtime.output_dir = str((Path(job.hydra.sweep.dir) / subdir).absolute())


def _has_result(folder: Path, config: dict[str, object], say: Callable[[str], None]) -> bool:
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
    record = folders.check_configuration(folder, config, "hydra.sweep.dir")
    for key, was in record.get("versions", {}).items():
        if was != (now := environment().get(key)):  # in the same words for each run: said once
            warnings.warn(
                f"some of the results that are there already were made with {key} {was}, not {now}", stacklevel=1
            )
    return ended


def give_up(job: DictConfig, folder: Path, status: str, error: str) -> None:
    """Record how a run ended whose process could not do so itself."""
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
