"""A Hydra sweeper for a union of grids: like Hydra's basic one, with several products of values in one sweep.

    hydra:
      sweeper:
        params: {task.seq_len: "50,100", seed: "0,1"}               # in every grid
        grids:
          - {model: rnn_orthogonal, model.init.gain: "0.6,0.8,1.0"} # 3 x 2 x 2 runs
          - {model: lstm_forget1, model.init.value: "0,1,2"}        # and 3 x 2 x 2 more

An interpolation in a grid, as "${units:500}", is each run's own.

A key stands for what is nearest to the run: the command line before the grid, the grid before `params`; `++key` is the
same key. A key from the command line applies to every grid, but for one that other grids name and that the models of
this grid do not have. (Hydra first tries single values on the default model: for a key that it lacks, write
"model.init.gain=choice(0.5)".) A run that several grids name is run once. Without grids, this is the basic sweeper.

Hydra takes sweepers from the namespace `hydra_plugins` alone, and has no public name for the basic one.
"""

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError


@dataclass
class GridsConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.grids.Grids"
    grids: Any = None  # a list of mappings, each like params


ConfigStore.instance().store(group="hydra/sweeper", name="grids", node=GridsConf, provider="carousel")


class Grids(BasicSweeper):
    hydra_context: Any  # Hydra's setup gives it

    def __init__(self, max_batch_size: int | None, params: Any, grids: ListConfig | None) -> None:
        super().__init__(max_batch_size, params)
        self.grids: Any = [] if grids is None else grids
        if not isinstance(self.grids, list | ListConfig) or not all(map(_is_grid, self.grids)):
            raise SystemExit(
                "error: hydra.sweeper.grids must be a list of mappings from keys to their values, like "
                f"[{{model: 'rnn,lstm', seed: '0,1'}}], got {grids}"
            )
        if max_batch_size is not None and (type(max_batch_size) is not int or max_batch_size < 1):
            raise SystemExit(
                f"error: hydra.sweeper.max_batch_size must be null or an integer of at least 1, got {max_batch_size}"
            )

    def setup(self, *, config: DictConfig, **others: Any) -> None:
        super().setup(config=config, **others)
        self.grids = OmegaConf.to_container(config.hydra.sweeper.grids, resolve=False) if self.grids else []

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Hydra composes each job, to see that it can be; the launcher does so before the first one begins."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """The batches to launch, given the overrides of `params` and, after them, of the command line."""
        batches = self._batches(overrides, max_batch_size)
        if not any(batches):
            raise SystemExit("error: this sweep has no run: one of its options has no value, as range(0,0) has none")
        if self.config is not None:
            with read_write(self.config.hydra):
                self.config.hydra.job.config.override_dirname.exclude_keys = constant(itertools.chain(*batches))
        return batches

    def _batches(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        if not self.grids:
            return super().split_arguments(_merge(overrides), max_batch_size)
        common, typed = overrides[: len(self.params)], overrides[len(self.params) :]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        grids = [parser.parse_overrides([f"{key}={value}" for key, value in g.items()]) for g in self.grids]
        elsewhere = {_key(o) for grid in grids for o in grid}
        runs = {}
        for grid in grids:
            own = {_key(o) for o in (*common, *grid)}
            others = [o for o in typed if _key(o) in own or _key(o) not in elsewhere]
            (plain,) = super().split_arguments(_merge([*common, *grid, *others]), None)
            mine = [o for o in typed if o in others or self._has(plain, o)]
            (batch,) = super().split_arguments(_merge([*common, *grid, *mine]), None)
            for run in batch:
                runs.setdefault(frozenset(run), run)
        return list(self.split_overrides_to_chunks(list(runs.values()), max_batch_size or len(runs) or 1))

    def _has(self, runs: list[list[str]], override: Override) -> bool:
        """Whether the configurations of these runs have a key that other grids name.

        Raises:
            SystemExit: some have it, and some do not.
        """
        if self.config is None:
            return False
        choices = {tuple(o for o in run if "." not in o.partition("=")[0]) for run in runs}  # groups decide on keys
        seen = set()
        for run in choices:
            with contextlib.suppress(ConfigAttributeError, ConfigKeyError):
                cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(run))
                node = OmegaConf.select(cfg, _key(override).rpartition(".")[0]) if "." in _key(override) else cfg
                seen.add(node is not None and _key(override).rpartition(".")[2] in node)
        if len(seen) > 1:
            raise SystemExit(
                f"error: {_key(override)}: some runs of one grid in hydra.sweeper.grids have this option, and some do "
                "not; give grids of your own"
            )
        return seen == {True}


def constant(runs: Iterable[list[str]]) -> list[str]:
    """The options that all runs of a sweep share, of which the runs' names say nothing; none of a single run's."""
    sets = [set(run) for run in runs]
    common = set.intersection(*sets) if len(sets) > 1 else set()
    return sorted(override.partition("=")[0].lstrip("+~") for override in common)


def _key(override: Override) -> str:
    return override.get_key_element().lstrip("+")


def _merge(overrides: list[Override]) -> list[Override]:
    """Of several overrides of one key, the last one, where the first one stood."""
    return list({_key(override): override for override in overrides}.values())


def _is_grid(grid: Any) -> bool:
    return isinstance(grid, dict | DictConfig) and all(isinstance(v, str | int | float) for v in grid.values())
