"""A run on several devices: one process for each of them, all from one configuration."""

import os
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from omegaconf import DictConfig

from hydra_plugins._processes import start


class Ranks(_SubprocessScriptLauncher):
    """Starts a run's other processes as Lightning's does, but gives them the configuration that this process has.
    Lightning repeats its command line: in a sweep that is the sweep's, or of what brought the run to its machine.

    Args:
        launcher: Lightning's.
        cfg: the run's configuration.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, cfg: DictConfig) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.cfg = cfg

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        environment = self.cluster_environment
        os.environ |= {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.num_processes),
        }
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # or Lightning sets another number
        for rank in range(1, self.num_processes):
            self.procs.append(start(_work, HydraConfig.instance().cfg, self.cfg, LOCAL_RANK=str(rank)))


def _work(hydra_cfg: Any, cfg: DictConfig) -> None:
    """What each of the other processes does."""
    from . import app

    setup_globals()
    HydraConfig.instance().cfg = hydra_cfg
    app.run(cfg)
