"""Every option of every configuration, with wrong types, values out of range, misspelt, and null."""

import contextlib
import math
from pathlib import Path

import pytest
from configs import EXPERIMENTS, FILES, OWN, has_data, load
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from carousel.lab import allowed, app, checks, cli

NO_NUMBER = ["abc", True, [1, 2], [], {"a": 1}]
NO_VALUE = [math.nan, math.inf, 10**12, -1, 0]
WRONG = {
    bool: ["abc", 1.5, 0, -1, math.nan, [1, 2], {"a": 1}],
    int: [*NO_NUMBER, 1.5, *NO_VALUE],
    float: [*NO_NUMBER, *NO_VALUE],
    type(None): [*NO_NUMBER, 1.5, *NO_VALUE],
    str: [True, 1.5, 0, -1, math.nan, [1, 2], {"a": 1}],
    ListConfig: ["abc", True, 1.5, 5, math.nan],
}
"""By the type of what is there."""
ZERO = (
    *("seed", "data_seed", "task.seed", "task.rare", "task.distractors", "task.part", "scheduler.patience"),
    *("optimizer.lr", "optimizer.momentum", "optimizer.alpha", "optimizer.eps", "optimizer.weight_decay"),
    *("trainer.max_steps", "trainer.log_every_n_steps", "callbacks.early_stopping.patience"),
    "callbacks.gradient_flow.predict",
    *("model.detach.gates", "model.detach.carousel", "encoder.dropout", "head.dropout"),
)
INTEGER = (
    *("model.init.value", "model.init.gain", "trainer.num_sanity_val_steps", "callbacks.stop_when_solved.at_least"),
    *("logger.tensorboard.version", "logger.csv.version"),
)
RIGHT = {name: [0] for name in ZERO} | {name: [0, -1] for name in INTEGER}
RIGHT["callbacks.progress.every_seconds"] = [0, 1.5]
"""What is none the less allowed."""


def leaves(node, name=""):
    for key in node:
        child, full = node._get_node(key), f"{name}.{key}".lstrip(".")
        if full not in ("hydra", "experiment"):
            yield from leaves(child, full) if isinstance(child, DictConfig) else [full]


@contextlib.contextmanager
def changed(cfg, name, value):
    parent, _, last = name.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    before = OmegaConf.to_container(node, resolve=False).get(last, ...)
    OmegaConf.update(cfg, name, value, merge=False, force_add=True)
    yield
    with open_dict(node):
        if before is ...:
            del node[last]
        else:
            OmegaConf.update(cfg, name, before, merge=False)


def refused(cfg, name, value):
    """The line that says what is wrong with an option's value."""
    with changed(cfg, name, value), pytest.raises(app.OptionError) as error:
        app.build(cfg)
    line = str(error.value)
    assert line.startswith("error: ")
    assert name in line
    assert "\n" not in line
    return line


GROUPS = list(dict.fromkeys(group for group, _ in FILES))


@pytest.mark.parametrize(
    ("group", "choices"),
    [(group, [name for g, name in FILES if g == group]) for group in GROUPS] + [("experiment", EXPERIMENTS)],
)
def test_every_option_is_checked_before_any_work(tmp_path, group, choices):
    seen = set()
    for choice in filter(has_data, choices):
        cfg = load(tmp_path, f"{group}={choice}", *OWN.get((group, choice), []), "trainer.accelerator=cpu")
        for name in leaves(cfg) if group == "experiment" else leaves(cfg[group], group):
            parent = name.rpartition(".")[0]
            of = (name, (OmegaConf.select(cfg, parent) if parent else cfg).get("_target_"))
            if of not in seen:
                seen.add(of)
                walk(cfg, name)
    assert seen
    assert not list(tmp_path.iterdir())


def walk(cfg, name):
    for wrong in WRONG[type(OmegaConf.select(cfg, name))]:
        if wrong is True or wrong not in RIGHT.get(name, ()):
            refused(cfg, name, wrong)
    with changed(cfg, name, None):
        try:
            app.build(cfg)
            line = name
        except app.OptionError as error:
            line = str(error)
        assert name in line
    if name.rpartition(".")[2] not in checks.PARTICLES:
        is_misspelt(cfg, name)


def is_misspelt(cfg, name):
    last = name.rpartition(".")[2]
    wrong = f"{name}{name[-1]}"
    with pytest.raises(OmegaConfBaseException) as error:
        OmegaConf.update(cfg, wrong, 1)
    line = cli.explain(error.value)
    assert line.startswith(f"{wrong}: no such option (did you mean {last}?); allowed here: ")
    assert "\n" not in line
    if name.count(".") > 1 or name.partition(".")[0] not in checks.NAMED:  # whose members have any name
        assert f"{last}?)" in refused(cfg, wrong, 1)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("+model.num_layer=2", "model.num_layer: no such option (did you mean num_layers?); allowed here: input_size"),
        ("model=lem +model.nun=2", "model.nun: no such option; allowed here: "),
        (
            "task=custom task.path=carousel.lab.tasks.Parity +task.seq_le=8",
            "task.seq_le: no such option (did you mean seq_",
        ),
        (
            "task=custom task.path=carousel.lab.tasks.Parity +task.seq_len=abc",
            "task.seq_len must be an integer, got 'abc'",
        ),
        ("+logger.tensorboard.flush_sec=3", "logger.tensorboard.flush_sec: no such option (did you mean flush_secs?)"),
        ("+optimizer.betas=[0.9,1]", "optimizer.betas must be a list, got [0.9, 1]"),
        (
            "callbacks.checkpoints.monitor=val/los",
            "callbacks.checkpoints.monitor=val/los is not measured (did you mean",
        ),
        ("+modle=lstm", "modle: no such option (did you mean model?); allowed here: model, task"),
        ("+encoder.sizes=3", "encoder.sizes: no such option (did you mean encoder.size?)"),
        ("trainer.max_steps=${nowhere}", "trainer.max_steps: Interpolation key 'nowhere' not found"),
        ("+encoder=5", "encoder has the options encoder.size, encoder.dropout, got 5"),
        ("+trainer.strategy=dpp", "trainer: You selected an invalid strategy name: `strategy='dpp'`"),
        ("trainer.devices=0", "trainer.devices: `Trainer(devices=0)` value is not a valid input"),
    ],
)
def test_what_is_added_is_checked_as_well(tmp_path, overrides, line):
    given = [override.replace("+encoder=", "encoder=") for override in overrides.split()]
    with pytest.raises(app.OptionError) as error:
        app.build(load(tmp_path, "trainer.accelerator=cpu", *given))
    assert str(error.value).startswith(f"error: {line}")


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, name in FILES if group in checks.NAMED])
def test_null_switches_off_any_logger_or_callback(tmp_path, group, name):
    if name == "mlflow":
        pytest.importorskip("mlflow")
    cfg = load(tmp_path, f"{group}={name}")
    for member in cfg[group]:
        with changed(cfg, f"{group}.{member}", None):
            trainer, *_ = app.build(cfg)
            assert len(trainer.loggers if group == "logger" else trainer.callbacks) > 0


def test_ranges_in_words():
    words = [str(allowed.read(hint)) for hint in (allowed.Size | None, allowed.Dropout, Path, float, bool | None)]
    assert words == [
        "an integer of at least 1 or null",
        "a number of at least 0 and under 1",
        "a string",
        "a number",
        "true or false or null",
    ]
