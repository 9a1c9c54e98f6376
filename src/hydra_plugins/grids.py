"""A Hydra sweeper for a union of grids: like Hydra's basic one, with several products of values in one sweep.

    hydra:
      sweeper:
        params: {task.seq_len: "50,100", seed: "0,1"}               # in every grid
        grids:
          - {model: rnn_orthogonal, model.init.gain: "0.6,0.8,1.0"} # 3 x 2 x 2 runs
          - {model: lstm_forget1, model.init.value: "0,1,2"}        # and 3 x 2 x 2 more

A key stands for what is nearest to the run: the command line before the grid, the grid before `params`. A key from the
command line that stands in some grids, and not in `params`, is of these grids alone; any other applies to all. (Hydra
first tries single values on the default model: for a key that it lacks, write "model.init.gain=choice(0.5)".) A run
that several grids name is run once. Without grids, this is the basic sweeper.

Hydra takes sweepers from the namespace `hydra_plugins` alone, and has no public name for the basic one.
"""

from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig


@dataclass
class GridsConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.grids.Grids"
    grids: Any = None  # a list of mappings, each like params


ConfigStore.instance().store(group="hydra/sweeper", name="grids", node=GridsConf, provider="carousel")


class Grids(BasicSweeper):
    def __init__(self, max_batch_size: int | None, params: DictConfig | None, grids: ListConfig | None) -> None:
        super().__init__(max_batch_size, params)
        self.grids = [] if grids is None else grids
        if not isinstance(self.grids, list | ListConfig) or not all(map(_is_grid, self.grids)):
            raise SystemExit(
                "error: hydra.sweeper.grids must be a list of mappings from keys to their values, like "
                f"[{{model: 'rnn,lstm', seed: '0,1'}}], got {grids}"
            )

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """The batches to launch, given the overrides of `params` and, after them, of the command line."""
        if not self.grids:
            return super().split_arguments(overrides, max_batch_size)
        common, typed = overrides[: len(self.params)], overrides[len(self.params) :]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        grids = [parser.parse_overrides([f"{key}={value}" for key, value in g.items()]) for g in self.grids]
        elsewhere = {o.get_key_element() for grid in grids for o in grid}
        runs = {}
        for grid in grids:
            own = {o.get_key_element() for o in (*common, *grid)}
            mine = [o for o in typed if o.get_key_element() in own or o.get_key_element() not in elsewhere]
            (batch,) = super().split_arguments([*common, *grid, *mine], None)
            for run in batch:
                runs.setdefault(frozenset(run), run)
        return list(self.split_overrides_to_chunks(list(runs.values()), max_batch_size))


def _is_grid(grid: Any) -> bool:
    return isinstance(grid, dict | DictConfig) and all(isinstance(v, str | int | float) for v in grid.values())
