"""A search for the options that validate best: which way is better, runs that are given up early, the best one's
configuration as a file that runs, and what the report says. `study` has what is Optuna's."""

import os
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning as L
import pandas as pd
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from . import html
from .options import OptionError
from .records import markdown_table, write
from .tasks import Task

BEST = "best.yaml"
SHOWN = 5
"""As many trials the report lists, the best first."""


def optuna() -> ModuleType:
    """What a search asks of Optuna.

    Raises:
        OptionError: Optuna is not installed.
    """
    try:
        from . import study
    except ModuleNotFoundError as error:
        line = 'pip install "torch-carousel[search]", or in a checkout -e ".[search]"'
        raise OptionError(f"hydra/sweeper=optuna needs {error.name}: {line}") from error
    return study


def direction(node: DictConfig, task: Task) -> str:
    """Whether the objective of a search is to `minimize` or to `maximize`: as its options say, or else the metric.

    Raises:
        OptionError: the objective is no validation score of the task, or it is not known which way is better.
    """
    metrics = {"val/loss": False} | {f"val/{name}": m.higher_is_better for name, m in task.metrics().items()}
    if node.objective not in metrics:
        raise OptionError(f"hydra.sweeper.objective must be one of {', '.join(metrics)}, got {node.objective}")
    words = {True: "maximize", False: "minimize", None: None}
    if node.direction not in words.values():
        raise OptionError(f"hydra.sweeper.direction must be null, minimize or maximize, got {node.direction}")
    found = node.direction or words[metrics[node.objective]]
    if found is None:
        raise OptionError(f"hydra.sweeper.direction: say minimize or maximize, for {node.objective} does not")
    return found


class Prune(L.Callback):
    """Tells the study how its trial, `hydra.job.num`, does at each validation, and stops it if the pruner says so.

    A run that is at its end, or stops for another reason, is not pruned.

    Args:
        hydra: the configuration of a run of a search.
    """

    def __init__(self, hydra: DictConfig) -> None:
        self.hydra, self.objective = hydra, hydra.sweeper.objective
        self.given_up: str | None = None
        """When and where the run was given up."""

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.trial = optuna().trial(self.hydra)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        step, value = trainer.global_step, float(trainer.callback_metrics[self.objective])
        self.trial.report(value, step)
        if not trainer.should_stop and step < trainer.max_steps and self.trial.should_prune():
            self.given_up = f"given up at training step {step}, with {self.objective} at {value:.4g}"
            trainer.should_stop = True


def pruning(hydra: DictConfig, task: Task) -> list[Prune]:
    """The callback that a run of a search needs; none for any other run.

    Raises:
        OptionError: the task has no such objective.
    """
    if hydra.mode != RunMode.MULTIRUN or "objective" not in hydra.sweeper:
        return []
    direction(hydra.sweeper, task)
    return [Prune(hydra)]


def write_best(folder: Path, said: str, config: DictConfig, loader: ConfigLoader) -> None:
    """Write a trial's configuration to best.yaml in the folder of the search: the choices of groups, and what else it
    changes.

    Args:
        said: which trial that is, in a line.
        config: its configuration, as composed.
        loader: composes what the choices alone give.
    """
    of_groups = loader.load_configuration("train", [], RunMode.RUN).hydra.runtime.choices
    known = [group for group in of_groups if not group.startswith("hydra/")]
    choices = dict.fromkeys(known) | {g: x for g, x in config.hydra.runtime.choices.items() if g[:6] != "hydra/"}
    choices["experiment"] = None  # which may say what to sweep; what else it sets is among the changes
    asked = [f"~{g}" if x is None else f"{'+' * (g not in known)}{g}={x}" for g, x in choices.items()
             if x != of_groups.get(g)]  # fmt: skip
    base = loader.load_configuration("train", asked, RunMode.RUN)
    both: Any = [OmegaConf.to_container(node, resolve=False) for node in (config, base)]
    mine, theirs = both
    changes, gone = _changes({**mine, "hydra": None}, {**theirs, "hydra": None})
    groups = [{f"{'override ' * (g in known)}{g}": x} for g, x in choices.items()]
    text = OmegaConf.to_yaml(OmegaConf.create({"defaults": ["train", *groups, "_self_"]} | changes))
    command = ["carousel-train", "--config-dir", os.path.relpath(folder), "--config-name", "best"]
    head = f"# {said}. Run it: {shlex.join([*command, *(f'~{key}' for key in gone)])}\n"
    write(folder / BEST, lambda part: part.write_text(head + text))


def _changes(mine: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """What `mine` has that `theirs` has not, or has otherwise; and the keys of what `theirs` alone has."""
    found, gone = {}, [f"{prefix}{key}" for key in theirs if key not in mine]
    for key, value in mine.items():
        if key in theirs and isinstance(value, dict) and isinstance(theirs[key], dict):
            inner, without = _changes(value, theirs[key], f"{prefix}{key}.")
            found |= {key: inner} if inner else {}
            gone += without
        elif key not in theirs or value != theirs[key]:
            found[key] = value
    return found, gone


def asked_for(folder: Path) -> DictConfig | None:
    """What the search in `folder` was asked for; None for any other sweep."""
    path = folder / "multirun.yaml"
    node = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper") if path.is_file() else None
    return node if node is not None and "objective" in node else None


def told(folder: Path, results: pd.DataFrame, to_runs: str) -> list[str]:
    """What a report says of a search: the objective, how many runs were given up, and which do best."""
    node = asked_for(folder)
    if node is None or node.objective not in results:
        return []
    largest = node.direction == "maximize"
    finished = results[results["status"] == "finished"].sort_values(node.objective, ascending=not largest)
    given_up = (results["status"] == "pruned").sum()
    rows = [
        [f"[`{run['label']}`](<{html.link(to_runs, run['run'])}>)", f"{run[node.objective]:.4g}", run["steps"]]
        for _, run in finished.head(SHOWN).iterrows()
    ]
    return [
        "## What the search found",
        f"`{node.objective}` was {'maximised' if largest else 'minimised'}, in at most {node.n_trials} runs."
        + f" Given up early, for doing worse than others had by then: {given_up} of {len(results)}; so of those that "
        "learn late some may be missing."
        * bool(given_up)
        + f" [{BEST}]({html.link(to_runs, BEST)}) runs the best one." * (folder / BEST).is_file(),
        markdown_table(["setting", node.objective, "training steps"], rows),
    ]
