"""What a training step of each cell of the guide takes on each of its tasks: in one process, in turns, one thread."""

import statistics
from typing import Any

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from rich.table import Table

from .app import conf_dir
from .bench_short import seconds
from .data import SequenceData
from .module import SequenceModule
from .options import make
from .saved import build_model
from .tasks import Batch, Task

BESIDE = "lstm"
"""The cell that the others' times are held against."""
COLUMNS = ["task", "model", "units", "parameters", "ms", "of_lstm"]


def _load(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["experiment=guide", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


def _step(module: SequenceModule, batch: Batch) -> None:
    """Forward, loss and backward."""
    module.zero_grad()
    module.loss(batch).backward()


def measure(repeats: int, console) -> pd.DataFrame:
    """A row for each task and model of conf/experiment/guide.yaml: `ms`, the median of the turns, and `of_lstm`, the
    median of the ratios to the LSTM's time in the same turn."""
    torch.set_num_threads(1)
    sweeper: Any = _load().hydra.sweeper
    models = [name.strip() for name in sweeper.params.model.split(",")]
    rows = []
    grids: Any = OmegaConf.to_container(sweeper.grids, resolve=False)
    for grid in track(grids, "timing", console=console, disable=not console.is_terminal, transient=True):
        of_task = [f"{key}={value}" for key, value in grid.items()]
        cfg = _load(*of_task)
        task = make("task", cfg.task, Task)
        called = type(task).__name__ if grid["task"] == "custom" else grid["task"]
        batch = next(iter(SequenceData(task, cfg.batch_size, cfg.eval_size, 0).train_dataloader()))
        modules, units = {}, {}
        for model in models:
            cfg = _load(f"model={model}", *of_task)
            torch.manual_seed(0)
            modules[model], units[model] = SequenceModule(build_model(cfg, task), task), cfg.model.hidden_size
        turns = [
            {model: seconds(_step, module, batch) for model, module in modules.items()} for _ in range(repeats + 1)
        ][1:]
        for model, module in modules.items():
            parameters = sum(p.numel() for p in module.parameters())
            ms = 1e3 * statistics.median(turn[model] for turn in turns)
            ratio = statistics.median(turn[model] / turn[BESIDE] for turn in turns)
            rows.append((called, model, units[model], parameters, ms, ratio))
    return pd.DataFrame(rows, columns=COLUMNS)


def show(rows: pd.DataFrame) -> Table:
    """The ratios, a row a cell and a column a task."""
    tasks = list(dict.fromkeys(rows.task))
    grid = Table(title="a training step of two layers at equal parameters, beside the LSTM's")
    grid.add_column("cell")
    for task in tasks:
        grid.add_column(task, justify="right")
    for model, own in rows.groupby("model", sort=False):
        grid.add_row(str(model), *(f"{ratio:.2f}" for ratio in own.set_index("task").of_lstm[tasks]))
    return grid
