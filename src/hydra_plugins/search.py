"""A Hydra sweeper that searches with Optuna, several runs at a time, and goes on where it was cut off.

    -m hydra/sweeper=optuna hydra.sweeper.n_trials=20 model=lstm,gru 'optimizer.lr=tag(log, interval(1e-4, 1e-1))'

`a,b` and `choice(a, b)` are categories, `range(a, b, step)` are numbers in order, `interval(a, b)` is all between,
`int(interval(a, b))` all integers, and `tag(log, ...)` takes the logarithm first. A key stands for what is nearest to
the run: the command line before `params`.

Trials are drawn in batches, each with all results of those before. So the same command finds the same, however long
single runs take, and in however many goes. (Hydra's own plugin, hydra-optuna-sweeper, wants an Optuna of before 3.0,
prunes nothing, and begins a trial that was cut off as another one.)
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write


@dataclass
class SearchConf:
    _target_: str = "hydra_plugins.search.Search"
    _recursive_: bool = False  # the sampler is made for each trial
    n_trials: int = 20  # in all, those of earlier goes included
    objective: str = "val/loss"  # a validation score of the task
    direction: str | None = None  # minimize or maximize; None: as the score itself says
    sampler: Any = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})
    pruner: Any = field(default_factory=lambda: {"_target_": "optuna.pruners.MedianPruner"})  # None: every run ends
    seed: int = 0  # of the sampler
    max_batch_size: int | None = None  # trials drawn at once; None: as many as the launcher runs at a time
    storage: str | None = None  # SQLAlchemy's URL of a database; None: study.db in the sweep's folder
    study: str = "search"  # its name in the storage
    params: dict[str, Any] | None = None  # as on the command line


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=SearchConf, provider="carousel")


class Search(Sweeper):
    config: Any
    launcher: Any
    batch_size: Any

    def __init__(self, n_trials: int, max_batch_size: int | None, params: DictConfig | None, **classes: Any) -> None:
        for name, value in (("n_trials", n_trials), ("max_batch_size", max_batch_size)):
            if value is not None and value < 1:
                raise SystemExit(f"error: hydra.sweeper.{name} must be at least 1, got {value}")
        for name, optional in (("sampler", False), ("pruner", True)):
            node = classes[name]
            if not ((isinstance(node, DictConfig) and "_target_" in node) or (optional and node is None)):
                raise SystemExit(
                    f"error: hydra.sweeper.{name} must {'be null or ' * optional}name a class in _target_, got {node}"
                )
        self.batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.batch_size = self.batch_size or getattr(self.launcher, "n_jobs", None)
        if self.batch_size is None:
            raise SystemExit("error: hydra.sweeper.max_batch_size: say how many trials are to be drawn at once")

    def sweep(self, arguments: list[str]) -> None:
        from carousel.lab import search  # here, for Hydra imports this file for every application
        from carousel.lab.options import make
        from carousel.lab.tasks import Task

        optuna = search.optuna()
        parser = OverridesParser.create(config_loader=self.loader)
        given = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        self.given = list({override.key_or_group: override for override in given}.values())
        space = {o.get_key_element(): optuna.values(o) for o in self.given if o.is_sweep_override()}
        if not space:
            raise SystemExit("error: there is nothing to search: give an option several values, or an interval")
        node, folder = self.config.hydra.sweeper, Path(self.config.hydra.sweep.dir)
        first = {key: optuna.first(found) for key, found in space.items()}
        with read_write(self.config.hydra):
            node.direction = search.direction(node, make("task", self._compose(first).task, Task))
            fixed = [o.key_or_group for o in self.given if not o.is_sweep_override()]
            self.config.hydra.job.config.override_dirname.exclude_keys = fixed  # what is no part of a run's name
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        study = optuna.open_study(self.config.hydra, node.direction)
        optuna.check_same(study, [*(o.input_line for o in self.given), f"{node.direction} {node.objective}"], folder)

        # To launch all trials that there are is to finish those that were cut off, to check that the others had this
        # configuration, and to keep them. The last batch may have been cut off while it was drawn.
        trials = optuna.begun(study, node, space)
        trials += optuna.draw(study, node, space, -len(trials) % self.batch_size)
        written = None
        while trials := trials or optuna.draw(study, node, space, self.batch_size):
            done = self.launcher.launch([self._overrides(t.params) for t in trials], initial_job_idx=trials[0].number)
            for trial, run in zip(trials, done, strict=True):
                optuna.tell(study, trial.number, Path(str(run.working_dir)), node.objective)
            line = f"search: {trials[-1].number + 1} of {node.n_trials} trials"
            if best := optuna.best(study):
                line += f", the best so far with {node.objective} {best.value:.4g}"
                if best.number != written:
                    said = f"{node.objective} {best.value:.4g}, trial {best.number} of a search"
                    search.write_best(folder, said, self._compose(best.params), self.loader)
                    written = best.number
            print(line, file=sys.stderr, flush=True)
            trials = []

    def _overrides(self, chosen: dict[str, Any]) -> list[str]:
        keys = {o.get_key_element(): o for o in self.given}
        return [f"{key}={chosen[key]}" if key in chosen else str(o.input_line) for key, o in keys.items()]

    def _compose(self, chosen: dict[str, Any]) -> DictConfig:
        return self.loader.load_sweep_config(self.config, self._overrides(chosen))
