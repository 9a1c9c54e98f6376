"""Every config file composes and builds, and says what is wrong when something is."""

import itertools

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import open_dict, read_write
from sweeps import batches

from carousel.gradients import flow
from carousel.lab import app

GROUPS = ("model", "task", "optimizer", "trainer", "logger", "callbacks")
FILES = [(group, path.stem) for group in GROUPS for path in sorted((app.conf_dir() / group).glob("*.yaml"))]
EXPERIMENTS = [path.stem for path in sorted((app.conf_dir() / "experiment").glob("*.yaml"))]


def load(tmp_path, *overrides):
    with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(cfg)
    return cfg


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_option_of_every_group_builds(tmp_path, group, name):
    own = ["model.cell.path=carousel.LSTMCell"] if name == "custom" else []
    trainer, module, data = app.build(load(tmp_path, f"{group}={name}", *own))
    assert trainer.max_steps > 0
    x, _ = batch = next(iter(data.train_dataloader()))
    module.loss(batch).backward()
    assert x.shape[1] == data.task.seq_len
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_of_every_experiment_builds(tmp_path, name):
    cfg = load(tmp_path, f"experiment={name}")
    assert cfg.hydra.mode.name == "MULTIRUN"
    seen = set()
    for run in itertools.chain(*batches(instantiate(cfg.hydra.sweeper))):
        if not seen.issuperset(run):  # each value once, for the launcher checks every run
            app.build(load(tmp_path, f"experiment={name}", *run))
            seen.update(run)


def test_the_headline_sweeps_what_it_should(tmp_path):
    params = load(tmp_path, "experiment=vanishing_gradients").hydra.sweeper.params
    assert params["model"].split(",") == ["rnn", "lstm", "lstm_forget1", "lstm_chrono", "nn_lstm"]
    assert params["task.seq_len"].split(",") == ["10", "25", "50", "100", "200"]


@pytest.mark.parametrize(("overrides", "seeds"), [(["seed=3"], (3, 3)), (["seed=3", "data_seed=0"], (3, 0))])
def test_the_datas_seed_follows_the_runs_unless_it_is_set(tmp_path, overrides, seeds):
    def batches(*model):
        cfg = load(tmp_path, *overrides, *model)
        assert (cfg.seed, cfg.data_seed) == seeds
        _, _, data = app.build(cfg)
        return [next(iter(loader())) for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader)]

    for (x, _), (same, _) in zip(batches(), batches("model=gru", "model.hidden_size=8"), strict=True):
        torch.testing.assert_close(x, same, rtol=0, atol=0)


def test_chrono_follows_the_length_of_the_task(tmp_path):
    _, module, _ = app.build(load(tmp_path, "model=lstm_chrono", "task.seq_len=77"))
    assert module.recurrent.cell().init[0].t_max == 77


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("task.seq_len=1", "task: seq_len must be an integer of at least 2, got 1"),
        ("task.seq_len=abc", "task: seq_len must be an integer of at least 2, got abc"),
        ("model.hidden_size=0", "model: hidden_size must be greater than zero"),
        ("model=custom", "model: Missing mandatory value: model.cell.path"),
        ("model=custom model.cell.path=nowhere.Cell", "model: Error loading 'nowhere.Cell': ModuleNotFoundError"),
        ("seed=true", "seed must be an integer of at least 0, got True"),
        ("threads=0", "threads must be an integer of at least 1, got 0"),
        ("trainer.max_steps=abc", "trainer.max_steps must be an integer, got abc"),
        ("model=custom model.cell.path=torch.nn.LSTMCell", "model: cell should be a subclass of carousel.Cell, got"),
        ("model._target_=torch.nn.Linear +model.out_features=3 ~model.hidden_size", "model: "),
        ("seed=-1", "seed must be an integer of at least 0, got -1"),
        ("data_seed=-3", "data_seed must be an integer of at least 0, got -3"),
        ("trainer.accelerator=tpu", "trainer.accelerator=tpu is not here; allowed: auto, cpu"),
        ("batch_size=0", "batch_size must be an integer of at least 1, got 0"),
        ("train_size=0", "train_size, unless null, must be an integer of at least 1, got 0"),
        ("train_size=1e3", "train_size, unless null, must be an integer of at least 1, got 1000.0"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
        ("callbacks.gradient_flow.every_n_steps=0", "every_n_steps must be an integer of at least 1, got 0"),
        ("trainer.max_steps=-7", "trainer: `max_steps` must be"),
    ],
)
def test_bad_values_are_named_before_any_work(tmp_path, override, line):
    with pytest.raises(app.OptionError) as error:
        app.build(load(tmp_path, *override.split()))
    message = str(error.value)
    assert message.startswith("error: ")
    assert line in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("override", ["~logger", "~callbacks"])
def test_logger_and_callbacks_may_be_left_out(tmp_path, override):
    app.build(load(tmp_path, override))


@pytest.mark.parametrize("model", ["nn_lstm", "gru"])
def test_layers_may_be_stacked_and_run_both_ways(tmp_path, model):
    _, module, data = app.build(load(tmp_path, f"model={model}", "+model.num_layers=2", "+model.bidirectional=true"))
    module.loss(next(iter(data.train_dataloader()))).backward()
    assert len(flow(module.recurrent, lambda: module.loss(next(iter(data.val_dataloader()))))) == 4


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=lstm", "task.seq_len=200", "seed=1"], "model=lstm,seq_len=200,seed=1"),
        (["experiment=vanishing_gradients", "model=rnn"], "model=rnn"),
        (["a.lr=1", "b.lr=2"], "a.lr=1,b.lr=2"),
        (["+x.path=a/b"], "path=a_b"),
        ([], "default"),
    ],
)
def test_a_run_is_named_by_what_varies(overrides, name):
    assert app.run_name(overrides) == name
