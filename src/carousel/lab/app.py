"""One run: built from its configuration, trained, tested and recorded."""

import contextlib
import logging
import math
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from omegaconf import DictConfig, OmegaConf

from . import allowed, checks, dashboard, folders, options, progress, records, search
from .callbacks import Probe, StopWhenSolved
from .data import SequenceData
from .environment import environment
from .live import Tell
from .module import TRAINING, SequenceModule, Unprofiled, part, scores
from .options import OptionError, make, option
from .progress import Progress
from .ranks import Ranks
from .saved import CHECKPOINTS, build_model, settle, weights
from .tasks import Task

launched: dict[Path, list[Path]] = {}
"""The folders to report on when all is done, and the runs in each that this process is answerable for."""


def conf_dir() -> Path:
    """The copy of conf/ in an installed package, or the checkout's."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"


def build(cfg: DictConfig, loggers: bool = True) -> tuple[Any, SequenceModule, SequenceData]:
    """Make everything that a run needs, so that bad input is found before any work starts.

    Raises:
        OptionError: an option has a value that it cannot have, or no effect.
    """
    hydra_cfg: Any = HydraConfig.get()
    checks.check(cfg, folders.parse(hydra_cfg.overrides.task))
    cuda, mps = CUDAAccelerator.is_available(), MPSAccelerator.is_available()
    here = ["auto", "cpu", *["cuda"] * cuda, *["mps"] * mps, *["gpu"] * (cuda or mps)]
    if cfg.trainer.accelerator not in here:
        raise OptionError(f"trainer.accelerator={cfg.trainer.accelerator} is not here; allowed: {', '.join(here)}")
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    task = make("task", cfg.task, Task)
    try:
        data = SequenceData(task, cfg.batch_size, cfg.eval_size, cfg.data_seed, cfg.train_size)
    except (ValueError, OSError) as error:  # which names the option
        raise OptionError(str(error)) from error
    model = build_model(cfg, task)
    optimizer = make("optimizer", cfg.optimizer)
    scheduler = make("scheduler", cfg.scheduler) if cfg.get("scheduler") else None
    module = SequenceModule(model, task, optimizer, scheduler)
    with option("optimizer", cfg.optimizer):
        made = optimizer(module.parameters())
    if not isinstance(made, torch.optim.Optimizer):
        raise OptionError(f"optimizer must be a torch Optimizer, got a {type(made).__name__}")
    if scheduler is not None:
        with option("scheduler", cfg.scheduler):
            made = scheduler(made)
        if not isinstance(made, torch.optim.lr_scheduler.LRScheduler):
            raise OptionError(f"scheduler must be a torch LRScheduler, got a {type(made).__name__}")
    callbacks = _members("callbacks", cfg, L.Callback, hydra_cfg.runtime.get("output_dir"))
    callbacks += search.pruning(hydra_cfg, task)
    _check_monitors(cfg, task)
    logger = _members("logger", cfg, Logger, hydra_cfg.runtime.get("output_dir")) if loggers else []
    quiet = {} if sys.stderr.isatty() or "enable_progress_bar" in cfg.trainer else {"enable_progress_bar": False}
    given = {"logger": logger or False, "callbacks": callbacks, **quiet}
    if not cfg.trainer.get("plugins"):  # the processes of a run are its own, also where Slurm started the first one
        given["plugins"] = [LightningEnvironment()]
    if not cfg.trainer.get("profiler"):
        given["profiler"] = Unprofiled()
    given["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = make("trainer", cfg.trainer, L.Trainer, **given)
    if cfg.tested == "best" and not trainer.checkpoint_callback:
        raise OptionError("tested=best needs callbacks.checkpoints")
    _check_processes(trainer)
    return trainer, module, data


def _members(name: str, cfg: DictConfig, kind: type, folder: str | None) -> list:
    """What a group holds under names of its own, such as callbacks; null switches one off."""
    found = []
    for key, node in (cfg.get(name) or {}).items():
        if node is None:
            continue
        found.append(make(f"{name}.{key}", node, kind))
        given = {which: value for which, value in node.items() if isinstance(value, str)}
        for which in ("name", "version", "sub_dir", "filename"):
            path = Path(given.get(which, ""))
            if path.is_absolute() or ".." in path.parts:
                raise OptionError(f"{name}.{key}.{which} must lead to no other folder, got {given[which]}")
        for which in ("path", "dirpath", "save_dir") if folder else ():
            if which not in given:
                continue
            path = Path(given[which])
            if problem := _unmakable(path.absolute()):
                raise OptionError(f"{name}.{key}.{which}: {path}: {problem}")
            own = not path.is_symlink() and path.absolute().parent == Path(folder or "").absolute()
            is_ours = which == "save_dir" or (own and path.is_file() == (which == "path"))
            if os.path.lexists(path) and not is_ours:
                raise OptionError(f"{name}.{key}.{which}: {path} is there already, and not of this run; choose another")
    return found


def _unmakable(path: Path) -> str | None:
    """Why there can be no such file or folder, if that is so."""
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
            return None
        nearest = next(folder for folder in path.parents if folder.exists())
        with tempfile.TemporaryDirectory(dir=nearest):
            return None
    except OSError as error:
        return error.strerror


def _check_monitors(cfg: DictConfig, task: Task) -> None:
    """That callbacks look at what is measured."""
    there = ["val/loss", *(f"val/{name}" for name in task.metrics()), *TRAINING]
    for key, node in (cfg.get("callbacks") or {}).items():
        watched = node.get("monitor") if node is not None else None
        if watched is not None and watched not in there:
            near = allowed.nearest(watched, there)
            raise OptionError(f"callbacks.{key}.monitor={watched} is not measured{near}; allowed: {', '.join(there)}")


def _check_processes(trainer: L.Trainer) -> None:
    """What a process measures that is started by another than ours is lost."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise OptionError(
            f"trainer.strategy={trainer.strategy.launcher._start_method} keeps its measures in processes that end; "
            "choose another, such as ddp"
        )
    if trainer.num_nodes > 1:
        raise OptionError(f"trainer.num_nodes must be 1, got {trainer.num_nodes}")


def configuration(cfg: DictConfig, folder: Path) -> dict[str, object]:
    """What a run's result depends on, flat; not where it is written."""
    keys = [key for key in cfg if key not in ("hydra", "logger")]
    nodes = {key: OmegaConf.to_container(cfg[key], resolve=True) if OmegaConf.is_config(cfg[key]) else cfg[key]
             for key in keys}  # fmt: skip
    here = f"{folder}/"
    config = {k: v.replace(here, "") if isinstance(v, str) else v for k, v in _flatten(nodes).items()}
    return config | options.code(config)


def _called(cfg: DictConfig, hydra_cfg: DictConfig, group: str) -> str:
    """The name of what was chosen of a group, or of its class where that is another one than the choice's."""
    choice, target = hydra_cfg.runtime.choices.get(group), cfg[group]._target_
    if target == "carousel.lab.tasks.custom":
        return cfg[group].path.rpartition(".")[2]
    if choice == "custom" and "cell" in cfg[group]:
        return choice  # whatever layer it is in: tables name it by its cell
    name = choice
    while name and (path := conf_dir() / group / f"{name}.yaml").is_file():
        node = OmegaConf.load(path)
        if "_target_" in node:
            return choice if node._target_ == target else target.rpartition(".")[2]
        name = node.defaults[0]
    return choice or target.rpartition(".")[2]


def new_record(cfg: DictConfig, hydra_cfg: DictConfig, folder: Path) -> dict:
    return {
        "status": "running",
        "error": None,
        "model": _called(cfg, hydra_cfg, "model"),
        "task": _called(cfg, hydra_cfg, "task"),
        "experiment": hydra_cfg.runtime.choices.get("experiment"),
        "seq_len": cfg.task.get("seq_len"),
        "seed": cfg.seed,
        "data_seed": cfg.data_seed,
        "baseline_loss": None,
        "solved": None,
        "steps_to_solve": None,
        "steps": 0,
        "parameters": None,
        "wall_time_s": None,
        "device": None,
        "overrides": folders.parse(hydra_cfg.overrides.task),
        "config": configuration(cfg, folder),
        "metrics": {},
        "versions": environment(),
    } | folders.process()


def run(cfg: DictConfig) -> float:
    """Train and test one model, and leave its record in the run's folder, whatever happens.

    Returns:
        The test loss; infinite if the run diverged before it came to one.
    """
    silence()
    hydra_cfg: Any = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    sweep = hydra_cfg.mode is not None and hydra_cfg.mode.name == "MULTIRUN"
    name = "hydra.sweep.subdir" if sweep else "hydra.run.dir"
    folders.claim(folder, name, lambda folder: folders.of_a_run(folder, name))
    trainer, module, data = build(cfg)
    settle(cfg.threads)
    if isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
        trainer.strategy._launcher = Ranks(launcher, cfg)
    record: dict[str, Any] = new_record(cfg, hydra_cfg, folder) | {
        "parameters": sum(p.numel() for p in module.parameters()),
        "device": trainer.strategy.root_device.type,
    }
    keeper = next((callback for callback in trainer.callbacks if isinstance(callback, Progress)), None)
    begun, written = None, {}
    if trainer.is_global_zero:  # of several processes, one keeps the books
        if keeper and progress.under_way(folder):
            before = folders.check_configuration(folder, record["config"], name)
            begun, written = progress.take_up(folder)
            record["earlier"] = folders.attempts(before) if begun else []
        folders.clear(folder, kept=written if begun else None)
        records.write_record(folder, record)
        report_on = Path(hydra_cfg.sweep.dir) if sweep else folder
        launched.setdefault(report_on, []).append(folder)
    elif keeper:
        begun = next(iter(progress.under_way(folder)), None)  # as the first process has left it
    if sweep:
        trainer.callbacks.append(Tell(folder))
    begin = time.perf_counter()
    try:
        trainer.fit(module, data, ckpt_path=begun, weights_only=True if begun else None)
        record["steps"] = trainer.global_step
        record["metrics"] = {k: float(v) for k, v in trainer.callback_metrics.items()}
        if trainer.is_global_zero:
            _write_probes(trainer, folder)
        saved = trainer.checkpoint_callback
        if saved:
            trainer.save_checkpoint(folder / CHECKPOINTS / "last.ckpt")
        record["metrics"] |= trainer.validate(module, data, verbose=False)[0]  # the last step may not have been
        if cfg.tested == "best":
            if not saved.best_model_path:
                raise ValueError("tested=best needs a validation in training: see trainer.val_check_interval")
            module.load_state_dict(weights(saved.best_model_path))
            loggers, trainer.loggers = trainer.loggers, []  # whose curves end with the last weights
            record["metrics"] |= trainer.validate(module, data, verbose=False)[0]
            trainer.loggers = loggers
        stops = [c for c in trainer.callbacks if isinstance(c, StopWhenSolved)]
        record["solved"] = (stops or [StopWhenSolved()])[0].solved(module, record["metrics"])
        record["steps_to_solve"] = stops[0].steps_to_solve if stops else None
        record["metrics"] |= trainer.test(module, data, verbose=False)[0]
        record["metrics"].pop("step", None)
        record["baselines"] = {
            name: scores(module.task, predict, part(data.test_dataloader(), trainer.limit_test_batches))
            for name, predict in module.task.baselines().items()
        }
        if not module.diverged and module.ran_away(loss := record["metrics"]["val/loss"]):
            module.diverged = f"val/loss is {loss:.4g}"
        given_up = next((c.given_up for c in trainer.callbacks if isinstance(c, search.Prune)), None)
        status = "diverged" if module.diverged else "pruned" if given_up else "finished"
        record |= {"status": status, "error": module.diverged or given_up}
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the first into the second
        record |= {"status": "interrupted", "error": "stopped by the user"}
        raise KeyboardInterrupt from error
    except BaseException as error:
        record["steps"] = trainer.global_step
        record |= {"status": "failed", "error": _line(error)}
        if isinstance(error, OSError) or not (module.diverged or _is_broken(module)):
            raise
        record |= {"status": "diverged", "error": module.diverged or record["error"]}
    finally:
        record["baseline_loss"] = module.baseline_loss
        record["wall_time_s"] = round(time.perf_counter() - begin + (keeper.earlier if keeper else 0), 2)
        if trainer.is_global_zero:
            ended = record["status"] in folders.ENDED
            if ended:  # the record comes last, for nothing is added to a run that has one
                _conclude(trainer, folder, record)
            (folder / records.NOW).unlink(missing_ok=True)
            records.write_record(folder, record)
            if ended:
                progress.forget(folder)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # or Gloo's threads may abort a process that exits (pytorch #190489)
    return record["metrics"].get("test/loss", math.inf)


def _line(error: BaseException) -> str:
    said = str(error).strip()
    if isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said:
        said = "out of memory (run fewer at a time, or with a smaller batch_size)"
    return ": ".join([type(error).__name__, *said.splitlines()[-1:]])


def _is_broken(module: L.LightningModule) -> bool:
    return not all(p.isfinite().all() for p in module.parameters())


def _conclude(trainer: L.Trainer, folder: Path, record: dict) -> None:
    """Tell the loggers the outcome."""
    try:
        dashboard.log_run(trainer, record, _gradient_horizon(folder))
    except Exception as error:  # no page of TensorBoard is worth a run
        warnings.warn(f"no hyperparameters in TensorBoard: {error}", stacklevel=1)


def _write_probes(trainer: Any, folder: Path) -> None:
    """All that the probes measured, one row a number."""
    rows = [
        (step, *row)
        for probe in trainer.callbacks
        if isinstance(probe, Probe)
        for step, measured in probe.values.items()
        for row in measured
    ]
    table = pd.DataFrame(rows, columns=records.PROBE_COLUMNS)
    records.write(folder / records.PROBES, lambda part: table.to_csv(part, index=False))


def _gradient_horizon(folder: Path) -> float:
    """The memory length at the end, of the last layer's innermost state; nan if it was not measured."""
    rows = pd.read_csv(folder / records.PROBES).assign(run="")
    rows = records.innermost(records.measured(rows, "memory_length", "end"))
    return float(rows["value"].iloc[0]) if len(rows) else math.nan


def _flatten(node, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, child in node.items() for k, v in _flatten(child, f"{prefix}.{key}".lstrip(".")).items()}


def silence() -> None:
    """Keep Lightning's hints and what Hydra says twice off the terminal; real warnings stay, one line each."""
    for name, level in (("lightning.pytorch", "WARNING"), ("lightning.fabric", "WARNING"), ("hydra", "CRITICAL")):
        logging.getLogger(name).setLevel(level)
    hints = [
        *("does not have many workers", "your dataloader is not resumable", "exists and is not empty"),
        *("litlogger", "LeafSpec", "has `__len__` defined", "The `srun` command is available"),
    ]
    for hint in hints:
        warnings.filterwarnings("ignore", f".*{hint}.*")
