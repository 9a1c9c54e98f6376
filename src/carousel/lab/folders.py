"""The folders of runs and sweeps: what they are called, whose they are, and that one process alone writes to each."""

import fcntl
import hashlib
import itertools
import os
import re
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from .options import OptionError, first_line
from .records import COLUMNS, NOW, RECORD, Unreadable, read_record

LONGEST = 200  # bytes of a name; file systems take 255, and the time of day stands before it
BEFORE = {".hydra", ".lock", "output.log"}  # what may stand in a run's folder before its record does
CHECKPOINTS = [f"checkpoints/{name}.ckpt" for name in ("best", "last", "progress", "progress.before")]
EVENTS = "events.out.tfevents.*[0-9]"  # of a run; those of a report's summary end in a word
ENDED = ("finished", "diverged", "pruned")  # what taking a sweep up again has nothing to add to

_locks: dict[Path, int] = {}  # open to the end of the process, for with it the lock ends


def parse(overrides: Sequence[str]) -> dict[str, str]:
    """Options and their values as they were given; an interpolation is not looked into."""
    given: Any = OmegaConf.to_container(overrides, resolve=False) if OmegaConf.is_list(overrides) else overrides
    parsed = OverridesParser.create().parse_overrides(list(given))
    return {o.key_or_group: o.get_value_element_as_str() for o in parsed}


def run_name(overrides: Sequence[str], constant: Collection[str] = ()) -> str:
    """What varies, as a folder's name: model=lstm,seq_len=200,seed=1. One that is too long ends in a hash of it all.

    Args:
        constant: the options that all runs of a sweep share.
    """
    parsed = {key: value for key, value in parse(overrides).items() if key not in ("experiment", *constant)}
    last = [key.split(".")[-1] for key in parsed]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(parsed, last, strict=True)}
    whole = ",".join(f"{short[key]}={value}" for key, value in parsed.items()) or "default"
    name = re.sub(r"[/\x00-\x1f]", "_", whole).translate(
        {ord(c): None for c in "\\$"}
    )  # not read again by Hydra, a shell
    if len(name.encode()) <= LONGEST:
        return name
    mark = "~" + hashlib.sha256(whole.encode()).hexdigest()[:12]
    return name.encode()[: LONGEST - len(mark)].decode(errors="ignore") + mark


OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def alone(mode: RunMode | None, model: str | None) -> str:
    """A folder within a run's for TensorBoard's files, which calls runs as their folders are within the one that it is
    given, and that one itself "."; a sweep's runs have names as they are."""
    return "" if mode == RunMode.MULTIRUN else (model or "run").replace("/", "_")


OmegaConf.register_new_resolver("alone", alone, replace=True)


def _lock(folder: Path) -> int | None:
    """Lock the folder; None if another process has."""
    file = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def is_busy(folder: Path) -> bool:
    """Whether another process is writing to the folder."""
    if folder.absolute() in _locks or not (folder / ".lock").exists():
        return False
    file = _lock(folder)
    if file is not None:
        os.close(file)
    return file is None


def claim(folder: Path, name: str, is_ours: Callable[[Path], None], generated: bool = False) -> Path:
    """Make a folder this process's own, until it ends. In a run of several processes, the first one does.

    Args:
        name: the option that gives the folder, for errors.
        is_ours: raises if the folder may not be written to.
        generated: the name is made from the time of day; if it is taken, another one is.

    Returns:
        The folder.

    Raises:
        OptionError: another process has it, it holds something else, or it cannot be written to.
    """
    if folder.absolute() in _locks or int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        candidates = itertools.chain([folder], (folder.with_name(f"{folder.name}_{k}") for k in itertools.count(2)))
        for folder in candidates:
            try:
                folder.mkdir()
                break
            except FileExistsError:
                if not generated:
                    break
        if not folder.is_dir():
            raise OptionError(f"{name}: {os.path.relpath(folder)} is no folder")
        is_ours(folder)
        file = _lock(folder)
        if file is None:
            raise OptionError(f"{name}: another process is writing to {os.path.relpath(folder)}; choose another folder")
    except OSError as error:
        raise OptionError(f"{name}: {error.filename}: {error.strerror}") from error
    _locks[folder.absolute()] = file
    return folder


def of_a_run(folder: Path, name: str = "hydra.run.dir") -> None:
    """Raise an OptionError unless the folder is empty, or holds a run that did not end."""
    if not (folder / RECORD).exists():
        others = {path.name for path in folder.iterdir() if path.suffix != ".log"} - BEFORE
        if others:
            found = f"{os.path.relpath(folder)} holds no record of a run, but {min(others)}"
            raise OptionError(f"{name}: {found}; choose another folder")
        return
    try:
        status = read_record(folder)["status"]
    except Unreadable as error:
        raise OptionError(f"{name}: {error}; choose another folder") from error
    if status in ENDED:
        raise OptionError(f"{name}: {os.path.relpath(folder)} already holds a {status} run; choose another")


def of_a_sweep(folder: Path) -> None:
    """Raise an OptionError unless the folder is empty, or a sweep's."""
    others = {path.name for path in folder.iterdir()} - {".lock"}
    if others and "multirun.yaml" not in others and not any(folder.glob(f"*/{RECORD}")):
        raise OptionError(
            f"hydra.sweep.dir: {os.path.relpath(folder)} holds something else than a sweep; choose another folder"
        )


def check_configuration(folder: Path, config: dict[str, object], name: str) -> dict:
    """The record of the run in `folder`, which has to have this configuration.

    Raises:
        OptionError: it has another one; `name` is the option that gives the folder.
    """
    record = read_record(folder)
    for key in sorted(record["config"].keys() | config.keys()):
        was, now = record["config"].get(key), config.get(key)
        if was != now and not (was != was and now != now):
            raise OptionError(f"{name}: {folder} was run with {key}={was}, not {now}; choose another folder")
    return record


def clear(folder: Path, kept: Collection[str] | None = None) -> None:
    """Remove what an earlier attempt at the run measured, and no file of anybody else's; of one that goes on, what it
    has begun since then: all but what is `kept`."""
    if not (folder / RECORD).exists():
        return
    record = read_record(folder)
    mine = [folder / name for name in (NOW, *(() if kept is not None else (*COLUMNS, *CHECKPOINTS)))]
    for attempt in attempts(record):
        mine += folder.rglob(EVENTS.replace("*", f"*.{attempt['host']}.{attempt['pid']}.*"))
        mine += folder.rglob(f".{attempt['pid']}-*")  # what was being written when the process was killed
    for path in mine:
        if str(path.relative_to(folder)) not in (kept or ()) and path.is_file() and not path.is_symlink():
            path.unlink()


def set_aside(folder: Path) -> str | None:
    """Move a run whose record cannot be read out of the way, for what it measured would mix with another attempt's.

    Returns:
        What is wrong with the record, or None.
    """
    try:
        read_record(folder)
    except FileNotFoundError:
        return None
    except Unreadable as error:
        names = (folder.with_name(f"{folder.name}.unreadable{k or ''}") for k in itertools.count())
        (folder / RECORD).replace(folder / f"{RECORD}.unreadable")  # reports pass it by
        folder.rename(next(name for name in names if not name.exists()))
        return str(error)
    return None


def attempts(record: dict) -> list[dict[str, object]]:
    """The processes of a run that has gone on, by its record, the last one at the end."""
    last = {key: record[key] for key in ("host", "pid") if key in record}
    return record.get("earlier", []) + [last] * bool(last)


def process() -> dict[str, object]:
    """By which a run's files of events can be known again."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


class Claim(Callback):
    """Claims the folder of a run or a sweep before Hydra writes to it."""

    def on_run_start(self, config: DictConfig, **_) -> None:
        self._claim(config, "run", of_a_run)

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        self._claim(config, "sweep", of_a_sweep)

    def _claim(self, config: DictConfig, kind: str, is_ours) -> None:
        HydraConfig.instance().set_config(config)  # what ${hydra:...} refers to
        node, name = config.hydra[kind], f"hydra.{kind}.dir"
        written: Any = OmegaConf.to_container(node, resolve=False)
        generated = "${now" in written["dir"]
        try:
            folder = Path(node.dir)
        except OmegaConfBaseException as error:  # in one of the options that the name is made of
            raise OptionError(first_line(error)) from error
        folder = claim(folder, name, is_ours, generated)
        with read_write(config.hydra):
            node.dir = str(folder)
