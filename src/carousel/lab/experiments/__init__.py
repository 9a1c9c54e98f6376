"""What is drawn and said of each named experiment: one file each, with a `figure` and the `findings` under it.

Both take the tables of `records.collect`, of finished runs, and read nothing else. The first line of a file says what
its figure shows, for those who can't see it. An experiment without a file here, like any other sweep, gets the general
figures of `report`.
"""

from types import ModuleType

from . import data, flow_is_not_ability, guide, horizon, init_decay, learning_curves, phase, which_path_learns

EXPERIMENTS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (init_decay, horizon, which_path_learns, phase, flow_is_not_ability, data, learning_curves, guide)
}

CHOSEN = "optimizer.lr"
"""Where an experiment sweeps this, each of its settings is shown with the value that is best on validation data."""
