"""The command line: Hydra's configuration in, runs and a report out."""

import argparse
import difflib
import errno
import os
import re
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import hydra
import hydra._internal.utils
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from rich.console import Console

from . import app, checks, records, summary
from .allowed import nearest
from .folders import ENDED
from .options import first_line
from .report import PAGE, write_report
from .search import BEST
from .terminal import legend, table

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
PATIENCE = 2.0  # seconds in which a second Ctrl-C is the first one


def finish(folder: Path, output: Path | None = None, key: str | None = None) -> bool:
    """Show the table, write the report (to `output`, of the best values of `key`), and say what to open next.

    Returns:
        Whether there is a report.

    Raises:
        FileNotFoundError: there is no run under `folder`.
        ValueError: no run has the `key`.
    """
    tables = records.collect(folder)
    rows = tables.results
    console = Console()

    def say(line: str, style: str | None = None) -> None:
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    console.print("\n".join(legend(rows)))
    console.print(table(rows))
    output, shown = output or folder, os.path.relpath(folder)
    written = True
    try:
        for line in write_report(tables, folder, output, key):
            say(line, "red")
    except Exception as error:
        if key:
            raise
        written = False
        say(f"warning: no report on {folder}: {type(error).__name__}: {first_line(error)}", "red")
    for run in rows[rows["status"].isin(["failed", "diverged"])].itertuples():
        say(f"{Path(shown, run.run)}: {run.error}", "red")
    if waiting := records.not_begun(folder):
        say(f"{len(waiting)} of {len(rows) + len(waiting)} runs not begun")
    for what, name in {"report:": "report.md", "page:": PAGE, "best:": BEST}.items():
        if written and (output / name).exists():
            say(f"{what:<13}{shlex.quote(os.path.relpath(output / name))}")
    say(f"dashboards:  tensorboard --logdir {shlex.quote(shown)}")
    say(f"             {summary.link(tables)}")
    return written


def explain(error: Exception) -> str | None:
    """The one line for an error that is the user's to mend; None for any other."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException) and error.options:
        return _no_choice(str(error.missing_cfg_file), error.options)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
        return _no_such(str(cause.full_key or cause.key), cause.parent_node)
    if isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or cause.key
        return f"{key}: {first_line(cause)}" if key else first_line(cause)
    if isinstance(error, OverrideParseException):
        return f"{first_line(error)}; a value with = or , in it needs quotes: 'key=\"value\"'"
    if "Config group override" in str(error):
        return f"{first_line(error)}; null is for {', '.join(checks.DISPENSABLE)} alone"
    if gone := re.search(r"'(\S+)' does not exist", str(error)):
        return f"{first_line(error).rstrip('.')}{nearest(gone[1], checks.TOP)}"
    if "Ambiguous value" in str(error):
        return f"{first_line(error)}; for a sweep: -m"
    if "INTERVAL_SWEEP" in str(error):
        return f"{first_line(error)}; to search an interval: hydra/sweeper=optuna"
    if "Could not append" in str(error):
        return f"{first_line(error)} Change it without the +"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, ValueError) and frames and frames[-1].filename == hydra._internal.utils.__file__:
        return first_line(error)  # flags that do not go together
    if isinstance(error, HydraException):
        return first_line(error)
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return None


def _no_choice(path: str, options: Sequence[str]) -> str:
    """Of a file that is not there; the `options` are those of its group that stand in no folder."""
    group, _, name = path.rpartition("/") if path.startswith("hydra/") else path.partition("/")
    top = app.conf_dir() / group
    known = dict.fromkeys([*options, *(p.relative_to(top).with_suffix("").as_posix() for p in top.rglob("*.yaml"))])
    ends = {one.rpartition("/")[2]: one for one in known}
    if group in checks.DISPENSABLE:
        ends["none"] = "null"
    near = difflib.get_close_matches(name.rpartition("/")[2], ends, 1)
    hint = f" (did you mean {ends[near[0]]}?)" if near else ""
    beside = [one for one in known if one.rpartition("/")[0] == name.rpartition("/")[0]] or known
    allowed = f"{group}={name} does not exist{hint}; allowed: {', '.join(sorted(beside))}"
    allowed += ", null" * (group in checks.DISPENSABLE)
    extra = name.partition("_")[0] if group == "hydra/launcher" else None
    return f'{allowed}; pip install "torch-carousel[{extra}]"' if extra in ("joblib", "ray", "submitit") else allowed


def groups() -> str:
    """What there is to choose from, a line a group; what stands in a folder of one, after its name. Hydra asks for its
    help with every command, and to look for all there is takes as long as to compose a configuration."""
    if not any(argument == "-h" or argument.startswith("--he") for argument in sys.argv):
        return ""
    loader = GlobalHydra.instance().config_loader()

    def choices(group: str) -> list[str]:
        below = [f"{folder}/{name}" for folder in loader.list_groups(group) for name in choices(f"{group}/{folder}")]
        return [*loader.get_group_options(group), *below]

    return "\n".join(f"{group}: {', '.join(choices(group))}" for group in loader.list_groups("") if group != "hydra")


OmegaConf.register_new_resolver("groups", groups, replace=True)  # for --help


def _no_such(key: str, parent: DictConfig) -> str:
    last = key.rpartition(".")[2]
    there = [str(name) for name in parent if name not in checks.PARTICLES]
    more = checks.parameters(key.rpartition(".")[0], parent)
    if last in more:
        return f"{key} is not set here yet: +{key} sets it"
    hint = "; one of some models alone: see grids in conf/experiment/phase.yaml" if key.startswith("model.") else ""
    allowed = f"allowed here: {', '.join(sorted(there))} (a new key needs +{hint})"
    return f"{key}: no such option{nearest(last, [*there, *more])}; {allowed}"


def _listen() -> None:
    """SIGTERM and SIGHUP as Ctrl-C; a Ctrl-C that follows at once on another is the same one."""
    last = -PATIENCE

    def interrupt(*_) -> None:
        nonlocal last
        if time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            raise KeyboardInterrupt

    asked = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    for number in asked:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:  # nohup ignores SIGHUP
            signal.signal(number, interrupt)


def _in_a_thread(error: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread that writes dies of a full disk; its main thread then raises the same error."""
    if not (isinstance(error.exc_value, OSError) and error.exc_value.errno in DISK):
        threading.__excepthook__(error)


def _parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The flags of a command; what is wrong with them is one line."""

    def refuse(message: str) -> NoReturn:
        wrong = message.removeprefix("unrecognized arguments: ")
        if wrong != message:
            flags = [flag for action in parser._actions for flag in action.option_strings]
            wrong = f"{wrong.split()[0]}: no such flag{nearest(wrong.split()[0], flags)}"
        sys.exit(f"error: {wrong}")

    parser.error = refuse
    return parser.parse_args()


def main() -> None:
    """Train: one run, or a sweep (`-m`, or an experiment that sets it)."""
    _listen()
    threading.excepthook = _in_a_thread
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    flags = [a for a in sys.argv[1:] if a in ("-m", "--multirun")]  # Hydra wants flags before or after all options
    nothing = {f"{group}=null": f"~{group}" for group in checks.DISPENSABLE}  # which Hydra has no other way to say
    sys.argv[1:] = flags + [nothing.get(a, a) for a in sys.argv[1:] if a not in flags]
    if not {"--info", "-i"} & set(sys.argv):
        app.silence()
    _parse(hydra._internal.utils.get_args_parser())
    sys.path.append(os.getcwd())  # where cells and tasks of one's own are
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors reach the lines below
    try:
        _run(wants_traceback)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(wants_traceback: bool) -> None:
    try:
        hydra.main(version_base="1.3", config_path=str(app.conf_dir()), config_name="train")(app.run)()
    except Exception as error:
        if wants_traceback or (line := explain(error)) is None:
            raise
        sys.exit(f"error: {line}")
    finally:
        for folder in app.launched:
            if any(folder.rglob(records.RECORD)):
                try:
                    finish(folder)
                except KeyboardInterrupt:
                    print(f"no report:   stopped; carousel-report {shlex.quote(os.path.relpath(folder))} writes it")
                    raise
    runs = {run for folders in app.launched.values() for run in folders}
    if failed := sum(not _has_ended(run) for run in runs):
        sys.exit(f"error: {failed} of {len(runs)} runs failed")


def _has_ended(run: Path) -> bool:
    try:
        return records.read_record(run)["status"] in ENDED
    except (FileNotFoundError, records.Unreadable):
        return False


def report() -> None:
    """Gather the runs of a folder into tables, figures and a report."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    parser = argparse.ArgumentParser(description=report.__doc__)
    parser.add_argument("folder", type=Path, help="any folder with runs in it, e.g. outputs/sweeps/<one>")
    parser.add_argument("--output", type=Path, help="where to write the report; by default to the folder of the runs")
    parser.add_argument("--best", metavar="KEY", help="a swept key of which each setting is shown with its best value")
    asked = _parse(parser)
    try:
        if not finish(asked.folder, asked.output, asked.best):
            sys.exit(1)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
