"""The command line: Hydra's configuration in, runs and a report out. The only place that knows Hydra."""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import hydra
import lightning as L
import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from ..twins import from_torch
from . import results
from .callbacks import Probe, StopWhenSolved
from .data import SequenceData
from .module import SequenceModule
from .report import table, write_report

launched: dict[Path, list[Path]] = {}
"""The folders to report on when all is done, and the runs in each that this process is answerable for."""


class OptionError(SystemExit):
    """Bad input: ends the program with one line that names the option and what is allowed."""

    def __init__(self, line: str) -> None:
        super().__init__(f"error: {line}")


def conf_dir() -> Path:
    """The checkout's conf/, or the copy inside an installed package."""
    checkout = Path(__file__).parents[3] / "conf"
    return checkout if (checkout / "train.yaml").is_file() else Path(__file__).parents[1] / "conf"


def run_name(overrides: list[str]) -> str:
    """What varies, as a folder's name: model=lstm,seq_len=200,seed=1."""
    parsed = {key: value for key, value in _parse(overrides).items() if key != "experiment"}
    last = [key.split(".")[-1] for key in parsed]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(parsed, last, strict=True)}
    name = ",".join(f"{short[key]}={value}" for key, value in parsed.items()).replace("/", "_") or "default"
    return name[:200]  # file systems take 255 bytes; `check` refuses two runs of one name


def _parse(overrides: list[str]) -> dict[str, str]:
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {o.key_or_group: o.get_value_element_as_str() for o in parsed}


OmegaConf.register_new_resolver("run_name", lambda overrides: run_name(list(overrides)), replace=True)


@contextlib.contextmanager
def option(name: str):
    """Turn what a constructor says of its arguments into a line that names the option."""
    try:
        yield
    except InstantiationException as error:
        raise OptionError(f"{name}: {_first_line(error.__cause__ or error)}") from error
    except (TypeError, ValueError, MisconfigurationException, OmegaConfBaseException) as error:
        raise OptionError(f"{name}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def build(cfg: DictConfig, loggers: bool = True) -> tuple[L.Trainer, SequenceModule, SequenceData]:
    """Make everything that a run needs, so that bad input is found before any work starts.

    Raises:
        OptionError: an option has a value that it cannot have.
    """
    for name, value, least in (("seed", cfg.seed, 0), ("threads", cfg.threads, 1)):
        if type(value) is not int or not least <= value < 2**32:
            raise OptionError(f"{name} must be an integer of at least {least}, got {value}")
    if type(cfg.trainer.max_steps) is not int:
        raise OptionError(f"trainer.max_steps must be an integer, got {cfg.trainer.max_steps}")
    cuda, mps = CUDAAccelerator.is_available(), MPSAccelerator.is_available()
    here = ["auto", "cpu", *["cuda"] * cuda, *["mps"] * mps, *["gpu"] * (cuda or mps)]
    if cfg.trainer.accelerator not in here:
        raise OptionError(f"trainer.accelerator={cfg.trainer.accelerator} is not here; allowed: {', '.join(here)}")
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    with option("task"):
        task = instantiate(cfg.task)
    with option("model"):
        recurrent = instantiate(cfg.model, input_size=task.input_size, batch_first=True)
        from_torch(recurrent)  # what the measures need of it
    with option("batch_size, eval_size, data_seed, train_size"):
        data = SequenceData(task, cfg.batch_size, cfg.eval_size, cfg.data_seed, cfg.train_size)
    with option("optimizer"):
        module = SequenceModule(recurrent, task, instantiate(cfg.optimizer))
        module.configure_optimizers()
    with option("callbacks"):
        callbacks = [c for c in instantiate(cfg.get("callbacks") or {}).values() if c is not None]
    with option("logger"):
        logger = list(instantiate(cfg.get("logger") or {}).values()) if loggers else []
    with option("trainer"):
        quiet = {} if sys.stderr.isatty() else {"enable_progress_bar": False}
        trainer = instantiate(cfg.trainer, logger=logger or False, callbacks=callbacks, **quiet)
    return trainer, module, data


def check(jobs: list[DictConfig]) -> None:
    """Raise an OptionError if one of these configurations cannot be run, or two would share a folder."""
    folders = [job.hydra.sweep.subdir for job in jobs]
    if twice := {name for name in folders if folders.count(name) > 1}:
        raise OptionError(f"hydra.sweep.subdir: several runs would be written to {', '.join(sorted(twice))}")
    for job in jobs:
        HydraConfig.instance().set_config(job)
        build(job, loggers=False)


def give_up(job: DictConfig, folder: Path, status: str, error: str) -> None:
    """Record how a run ended whose process could not do so itself."""
    record = results.read_record(folder) if (folder / results.RECORD).exists() else new_record(job, job.hydra)
    if record["status"] == "running":
        results.write_record(folder, record | {"status": status, "error": error})


def new_record(cfg: DictConfig, hydra_cfg: DictConfig) -> dict:
    # What a result depends on: not where it is written.
    keys = [key for key in cfg if key not in ("hydra", "logger", "callbacks")]
    config = OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True)
    return {
        "status": "running",
        "error": None,
        "model": hydra_cfg.runtime.choices["model"],
        "task": hydra_cfg.runtime.choices["task"],
        "experiment": hydra_cfg.runtime.choices.get("experiment"),
        "seq_len": cfg.task.seq_len,
        "seed": cfg.seed,
        "data_seed": cfg.data_seed,
        "chance": None,
        "solved": False,
        "steps_to_solve": None,
        "steps": 0,
        "parameters": None,
        "wall_time_s": None,
        "device": None,
        "overrides": _parse(hydra_cfg.overrides.task),
        "config": _flatten(config),
        "metrics": {},
        "versions": results.environment(),
    }


def run(cfg: DictConfig) -> float:
    """Train and test one model, and leave its record in the run's folder, whatever happens.

    Returns:
        The test loss.
    """
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    if results.is_finished(folder):
        raise OptionError(f"hydra.run.dir: {os.path.relpath(folder)} already holds a finished run; choose another")
    torch.set_num_threads(cfg.threads)
    trainer, module, data = build(cfg)
    # Vanishing gradients end as denormal numbers, which slow x86 processors down several times over.
    torch.set_flush_denormal(True)
    record = new_record(cfg, hydra_cfg) | {
        "chance": module.task.chance,
        "parameters": sum(p.numel() for p in module.parameters()),
        "device": trainer.strategy.root_device.type,
    }
    if trainer.is_global_zero:  # of several processes, one keeps the books
        for left_by_an_interrupted_run in folder.glob("events.out.tfevents*"):
            left_by_an_interrupted_run.unlink()
        results.write_record(folder, record)
        report_on = Path(hydra_cfg.sweep.dir) if hydra_cfg.mode.name == "MULTIRUN" else folder
        launched.setdefault(report_on, []).append(folder)
    begin = time.perf_counter()
    try:
        trainer.fit(module, data)
        record["steps"] = trainer.global_step
        record["metrics"] = {k: float(v) for k, v in trainer.callback_metrics.items()}
        if trainer.is_global_zero:
            _write_probes(trainer, folder)
        record["metrics"] |= trainer.validate(module, data, verbose=False)[0]  # the last step may not have been
        record["solved"] = module.task.solved(record["metrics"]["val/loss"])
        stops = [c for c in trainer.callbacks if isinstance(c, StopWhenSolved)]
        record["steps_to_solve"] = stops[0].steps_to_solve if stops else None
        record["metrics"] |= trainer.test(module, data, verbose=False)[0]
        record["metrics"].pop("step", None)
        _log_hyperparameters(trainer, record)
        record["status"] = "finished"
        if not math.isfinite(record["metrics"]["val/loss"]):
            record |= {"status": "diverged", "error": f"val/loss is {record['metrics']['val/loss']}"}
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the first into the second
        record |= {"status": "interrupted", "error": "stopped by the user"}
        raise KeyboardInterrupt from error
    except BaseException as error:
        last = (str(error).strip().splitlines() or ["?"])[-1]
        record |= {"status": "failed", "error": f"{type(error).__name__}: {last}"}
        raise
    finally:
        record["wall_time_s"] = round(time.perf_counter() - begin, 2)
        if trainer.is_global_zero:
            results.write_record(folder, record)
    return record["metrics"]["test/loss"]


def _log_hyperparameters(trainer: L.Trainer, record: dict) -> None:
    """For TensorBoard's HParams page: what was chosen beside what came out, once, at the last step."""
    chosen = {key: record[key] for key in ("model", "task")}
    order = sorted(record["config"], key=lambda key: key not in record["overrides"])  # what was asked for comes first
    chosen |= {key: record["config"][key] for key in order if not key.split(".")[-1].startswith("_")}
    outcome = {key: value for key, value in record["metrics"].items() if key.startswith("test/")}
    outcome |= {"outcome/solved": float(record["solved"]), "outcome/steps": record["steps"]}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(chosen, outcome, step=trainer.global_step)
            logger.finalize("success")


def _write_probes(trainer: L.Trainer, folder: Path) -> None:
    """All that the probes measured, one row a number."""
    rows = [
        (step, *row)
        for probe in trainer.callbacks
        if isinstance(probe, Probe)
        for step, measured in probe.values.items()
        for row in measured
    ]
    table = pd.DataFrame(rows, columns=results.PROBE_COLUMNS)
    results.write(folder / results.PROBES, lambda part: table.to_csv(part, index=False))


def _flatten(node, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, child in node.items() for k, v in _flatten(child, f"{prefix}.{key}".lstrip(".")).items()}


def finish(folder: Path, output: Path | None = None, key: str | None = None) -> None:
    """Show the table, write the report (to `output`, of the best values of `key`), and say what to open next."""
    tables = results.collect(folder)
    rows = tables.results
    console = Console()
    baselines = results.names(f"{loss:.3g} ({task})" for task, loss in rows.groupby("task")["chance"].first().items())
    console.print(f"training steps until solved, or ✗ and the final validation loss; the baseline's is {baselines}")
    console.print(table(rows))
    try:
        for line in write_report(tables, folder, output, key):
            console.print(line, style="red", highlight=False, markup=False)
    except OSError as error:
        console.print(f"error: the report was not written: {error}", style="red", highlight=False, markup=False)
    for run in rows[rows["status"].isin(["failed", "diverged"])].itertuples():
        console.print(f"{run.run}: {run.error}", style="red", highlight=False, markup=False)
    shown = Path(os.path.relpath(folder))
    console.print(
        f"report:      {Path(os.path.relpath(output or folder)) / 'report.md'}", highlight=False, soft_wrap=True
    )
    console.print(f"dashboards:  tensorboard --logdir {shown}", highlight=False, soft_wrap=True)


def explain(error: Exception) -> str | None:
    """The one line for an error that is the user's to mend; None for any other."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={name} does not exist; allowed: {', '.join(sorted(error.options))}"
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        allowed = ", ".join(sorted(map(str, cause.parent_node)))
        return f"{cause.full_key or cause.key}: no such option; allowed here: {allowed}"
    if isinstance(error, HydraException) or "Config group override" in str(error):
        return _first_line(error)
    return None


def silence() -> None:
    """Keep Lightning's hints and what Hydra says twice off the terminal; real warnings stay."""
    for name, level in (("lightning.pytorch", "WARNING"), ("lightning.fabric", "WARNING"), ("hydra", "CRITICAL")):
        logging.getLogger(name).setLevel(level)
    for message in (".*does not have many workers.*", ".*exists and is not empty.*", ".*litlogger.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message)


def main() -> None:
    """Train: one run, or a sweep (`-m`, or an experiment that sets it)."""
    silence()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors reach the lines below
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(run)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if wants_traceback or (line := explain(error)) is None:
            raise
        sys.exit(f"error: {line}")
    finally:
        for folder in launched:
            if any(folder.rglob(results.RECORD)):
                finish(folder)
    statuses = [results.read_record(run)["status"] for runs in launched.values() for run in runs]
    if failed := statuses.count("failed"):
        sys.exit(f"error: {failed} of {len(statuses)} runs failed")


def report() -> None:
    """Gather the runs of a folder into tables, figures and a report."""
    parser = argparse.ArgumentParser(description=report.__doc__)
    parser.add_argument("folder", type=Path, help="any folder with runs in it, e.g. outputs/sweeps/<one>")
    parser.add_argument("--output", type=Path, help="where to write the report; by default to the folder of the runs")
    parser.add_argument("--best", metavar="KEY", help="a swept key of which each setting is shown with its best value")
    options = parser.parse_args()
    try:
        finish(options.folder, options.output, options.best)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
