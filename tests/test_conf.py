"""Every config file composes and builds, and says what is wrong when something is."""

import itertools
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from configs import EXPERIMENTS, FILES, OWN, load, skip_without_data
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from made_up import BARE
from omegaconf import OmegaConf, open_dict, read_write
from sweeps import batches

from carousel.gradients import flow
from carousel.lab import app, cli, folders, sweep
from carousel.lab.environment import environment
from carousel.lab.module import SequenceModule
from carousel.lab.records import write_record
from carousel.lab.reproduce import REPRODUCED
from carousel.lab.saved import build_model


def built(tmp_path, *overrides, **groups):
    own = [override for choice in groups.items() for override in OWN.get(choice, [])]
    cfg = load(tmp_path, *(f"{group}={name}" for group, name in groups.items()), *own, *overrides)
    return building(cfg, bool({"task", "logger"} & groups.keys()))


def building(cfg, may_lack=True):
    try:
        return app.build(cfg)
    except app.OptionError as error:
        if may_lack and " needs " in str(error):  # what does not come with the package
            pytest.skip(str(error))
        raise


@cache
def small(model):
    """A model's configuration; to compose one takes longer than what it is for here."""
    return OmegaConf.to_yaml(load(Path(), f"model={model}", "model.hidden_size=4").model)


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_option_of_every_group_builds(tmp_path, group, name):
    trainer, module, data = built(tmp_path, **{group: name})
    assert trainer.max_steps > 0
    batch = next(iter(data.train_dataloader()))
    module.loss(batch).backward()
    assert batch.input.shape[1] <= data.task.longest()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("task", [name for group, name in FILES if group == "task"])
def test_models_of_every_kind_get_their_gradients_from_every_task(tmp_path, task):
    cfg = load(tmp_path, f"task={task}", "batch_size=2", "eval_size=2", *OWN.get(("task", task), []))
    _, _, data = building(cfg)
    batch = next(iter(data.train_dataloader()))
    for model in ("rnn", "lstm_chrono", "lstm_layer_norm", "gru", "nn_lstm", "min_gru", "slstm", "cfc", "lem"):
        with open_dict(cfg):
            cfg.model = OmegaConf.create(small(model))
        module = SequenceModule(build_model(cfg, data.task), data.task)
        module.loss(batch).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters()), model


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in REPRODUCED])  # which run, in their test
def test_every_value_of_every_experiment_builds(tmp_path, name):
    skip_without_data(name)
    cfg = load(tmp_path, f"experiment={name}")
    assert cfg.hydra.mode.name == "MULTIRUN"
    runs = list(map(set, itertools.chain(*batches(instantiate(cfg.hydra.sweeper)))))
    left = set().union(*runs)
    while left:  # in as few runs as they will go into: the launcher checks every one
        run = max(runs, key=lambda run: len(run & left))
        app.build(load(tmp_path, f"experiment={name}", *sorted(run)))
        left -= run


def test_the_headline_sweeps_what_it_should(tmp_path):
    sweeper = load(tmp_path, "experiment=vanishing_gradients").hydra.sweeper
    assert sweeper.params["model"].split(",") == ["rnn", "lstm", "lstm_forget1", "lstm_chrono", "gru"]
    assert sweeper.params["task.seq_len"].split(",") == ["10", "25", "50", "100", "200"]


@pytest.mark.parametrize(("overrides", "seeds"), [(["seed=3"], (3, 3)), (["seed=3", "data_seed=0"], (3, 0))])
def test_the_datas_seed_follows_the_runs_unless_it_is_set(tmp_path, overrides, seeds):
    def batches(*model):
        cfg = load(tmp_path, *overrides, *model)
        assert (cfg.seed, cfg.data_seed) == seeds
        _, _, data = app.build(cfg)
        return [next(iter(loader())) for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader)]

    for (x, *_), (same, *_) in zip(batches(), batches("model=gru", "model.hidden_size=8"), strict=True):
        torch.testing.assert_close(x, same, rtol=0, atol=0)


def test_chrono_follows_the_length_of_the_task(tmp_path):
    _, module, _ = app.build(load(tmp_path, "model=lstm_chrono", "task.seq_len=77"))
    assert module.recurrent.cell().init[0].t_max == 77


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("task.seq_len=1", "error: task.seq_len must be an integer of at least 2, got 1"),
        ("task.seq_len=abc", "task.seq_len must be an integer, got 'abc'"),
        ("model.hidden_size=0", "model.hidden_size must be an integer of at least 1 or a list, got 0"),
        ("model=custom", "error: model.cell.path must be given"),
        (
            "model=custom model.cell.path=nowhere.Cell",
            "model.cell.path: Error loading 'nowhere.Cell': ModuleNotFoundError",
        ),
        ("seed=true", "seed must be an integer of at least 0 and under 4294967296, got true"),
        ("threads=0", "threads must be an integer of at least 1 and at most 1024, got 0"),
        ("threads=100000", "threads must be an integer of at least 1 and at most 1024, got 100000"),
        ("trainer.max_steps=abc", "trainer.max_steps must be an integer of at least 0, got 'abc'"),
        ("model=custom model.cell.path=torch.Tensor", "model.cell should be a subclass of carousel.Cell, or"),
        (
            "model._target_=torch.nn.Linear +model.out_features=3 ~model.hidden_size",
            "model.detach: no such option; allowed here: in_features",
        ),
        ("seed=-1", "seed must be an integer of at least 0 and under 4294967296, got -1"),
        ("data_seed=-3", "data_seed must be an integer of at least 0 and under 4294967296, got -3"),
        ("trainer.accelerator=tpu", "trainer.accelerator=tpu is not here; allowed: auto, cpu"),
        ("~optimizer", "~optimizer: there is no run without"),
        ("~seed data_seed=1", "~seed: there is no run without"),
        ("~trainer.max_steps", "error: ~trainer.max_steps: there is no run without"),
        (
            "batch_size=100000000000",
            "batch_size must be an integer of at least 1 and under 2147483648, got 100000000000",
        ),
        ("batch_size=0", "error: batch_size must be an integer of at least 1, got 0"),
        ("train_size=0", "error: train_size must be an integer of at least 1 or null, got 0"),
        ("train_size=1e3", "train_size must be an integer of at least 1 or null, got 1000.0"),
        ("optimizer.lr=-1", "optimizer.lr must be a number of at least 0, got -1"),
        (
            "callbacks.gradient_flow.every_n_steps=0",
            "gradient_flow.every_n_steps must be an integer of at least 1 or null, got 0",
        ),
        ("trainer.max_steps=-7", "trainer.max_steps must be an integer of at least 0, got -7"),
        ("seed=99999999999", "seed must be an integer of at least 0 and under 4294967296, got 99999999999"),
        ("threads=null", "threads must be an integer of at least 1 and at most 1024, got null"),
        ("threads=2.0", "threads must be an integer of at least 1 and at most 1024, got 2.0"),
        ("+lr=5", "lr: no such option; allowed here: model, task"),
        ("+scheduler={_target_:x}", "scheduler._target_: Error loading 'x': ModuleNotFoundError"),
        ("+ckpt_path=x", "ckpt_path: no such option"),
        ("+model.batch_first=false", "model.batch_first is not yours to set"),
        ("+model.input_size=3", "model.input_size is not yours to set"),
        ("+model.device=meta", "model.device is not yours to set: it is the trainer's"),
        ("+trainer.logger=false", "trainer.logger is not yours to set"),
        ("optimizer.lr=true", "optimizer.lr must be a number of at least 0, got true"),
        ("optimizer.lr=abc", "optimizer.lr must be a number of at least 0, got 'abc'"),
        ("model.hidden_size=true", "model.hidden_size must be an integer of at least 1 or a list, got true"),
        ("model=nn_lstm model.hidden_size=true", "model.hidden_size must be an integer of at least 1, got true"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must be a number over 0 or null, got -1"),
        ("trainer.gradient_clip_val=nan", "trainer.gradient_clip_val must be a number over 0 or null, got nan"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval must be a number over 0 or null, got 0"),
        (
            "trainer.check_val_every_n_epoch=0",
            "trainer.check_val_every_n_epoch must be an integer of at least 1 or null, got 0",
        ),
        ("+trainer.limit_val_batches=0", "trainer.limit_val_batches must be a number over 0 or null, got 0"),
        ("+trainer.limit_test_batches=0.0", "trainer.limit_test_batches must be a number over 0 or null, got 0.0"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches must be over 0, got 0"),
        (
            "+trainer.accumulate_grad_batches=0",
            "trainer.accumulate_grad_batches must be an integer of at least 1, got 0",
        ),
        (
            "trainer.log_every_n_steps=1.5",
            "trainer.log_every_n_steps must be an integer of at least 0 or null, got 1.5",
        ),
        ("+trainer.enable_checkpointing=true", "trainer.enable_checkpointing is not yours to set"),
        ("callbacks={}", "callbacks={} changes nothing: it is merged with what is there; to go without, ~callbacks"),
        ("+callbacks.x=5", "callbacks.x must be null or name a class in _target_, got 5"),
        ("+callbacks.x._target_=builtins.dict", "callbacks.x must be a lightning Callback"),
        ("logger.csv=5", "logger.csv must be null or name a class in _target_, got 5"),
        ("task=words task.path=nowhere.txt", "error: task.path: nowhere.txt does not exist"),
        ("task=words task.path=/ task.rare=1.5", "task.rare must be an integer, got 1.5"),
        ("task=words task.path=/", "task.path: / has 0 of the Brown corpus's 500 files"),
        ("task=characters task.path=/", "error: task.path: / is no file of text"),
        ("task=characters task.chunk=0", "task.chunk must be an integer of at least 1, got 0"),
        ("task=characters batch_size=20000", "batch_size x task.chunk must be at most about the 418542 steps"),
        ("task=characters +model.bidirectional=true", "model.bidirectional must be false"),
        ("task._target_=builtins.dict", "task must be a carousel Task"),
        ("trainer._target_=builtins.dict", "trainer must be a lightning Trainer"),
        ("+model.dtype=float63", "model.dtype must be float32, float64, bfloat16, float16 or null, got 'float63'"),
        ("callbacks.gradient_flow.path=/dev/null", "callbacks.gradient_flow.path: /dev/null is there already"),
        ("callbacks.gradient_flow.path=/proc/zzz/flow.csv", "gradient_flow.path: /proc/zzz/flow.csv: No such file"),
        (f"callbacks.examples.dirpath={'long' * 64}", "longlong: File name too long"),
        (f"callbacks.examples.dirpath={__file__}/x", "test_conf.py/x: Not a directory"),
        ("logger.tensorboard.save_dir=/proc/zzz", "logger.tensorboard.save_dir: /proc/zzz: No such file or directory"),
        (
            "logger.tensorboard.version=/../../x",
            "logger.tensorboard.version must lead to no other folder, got /../../x",
        ),
        ("logger.csv.name=a/../../x", "logger.csv.name must lead to no other folder, got a/../../x"),
        ("callbacks.checkpoints.filename=../best", "callbacks.checkpoints.filename must lead to no other folder, got"),
        ("+trainer.strategy=ddp_spawn", "trainer.strategy=spawn keeps its measures in processes that end"),
        ("+trainer.num_nodes=2 trainer.accelerator=cpu", "trainer.num_nodes must be 1, got 2"),
        ("model=custom model.cell.path=broken.Typo", "broken.py:"),
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


def test_what_hydra_says_of_its_flags_and_plusses_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--resolve"])
    monkeypatch.setattr(app, "launched", {})  # or the sweeps of the tests before this one were reported on
    with pytest.raises(SystemExit, match="The --resolve flag can only be used"):
        cli._run(wants_traceback=False)
    with pytest.raises(HydraException) as error:
        load(tmp_path, "+optimizer.lr=5")
    assert cli.explain(error.value) == (
        "Could not append to config. An item is already at 'optimizer.lr'. Change it without the +"
    )


@pytest.mark.parametrize(
    "override",
    ["~logger", "~callbacks", "logger.csv=null", "logger.tensorboard=null"]
    + [f"callbacks.{name}=null" for name in ("gradient_flow", "gates", "stop_when_solved", "charts")],
)
def test_logger_and_callbacks_may_be_left_out(tmp_path, override):
    app.build(load(tmp_path, override))


def test_without_mlflow_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", False)
    line = r'^error: logger.mlflow: needs MLflow: pip install "torch-carousel\[ml'
    with pytest.raises(app.OptionError, match=line):
        app.build(load(tmp_path, "logger=mlflow"))
    with pytest.raises(app.OptionError, match=line):
        sweep.prepare(jobs(tmp_path, "seed=0", "seed=1 logger=mlflow"))


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
    assert folders.run_name(overrides) == name


def test_a_key_of_ones_own_is_an_option_if_another_refers_to_it(tmp_path):
    _, module, _ = app.build(load(tmp_path, "+width=6", "model.hidden_size=${width}"))
    assert module.recurrent.hidden_size == 6


def test_a_task_or_model_by_its_class_is_called_so(tmp_path):
    def called(*overrides):
        cfg = load(tmp_path, *overrides)
        record = app.new_record(cfg, cfg.hydra, tmp_path)
        return record["model"], record["task"]

    assert called() == ("lstm", "adding")
    assert called("model=lstm_chrono", "task._target_=carousel.lab.tasks.Latch") == ("lstm_chrono", "Latch")
    assert called("model._target_=carousel.GRU", "~model.detach") == ("GRU", "adding")
    own = ["model=custom", "model.cell.path=carousel.GRUCell", "+model.steps=5"]
    assert called(*own, "model._target_=carousel.lab.reproduce.mnist1d.AllSteps") == ("custom", "adding")


def jobs(tmp_path, *settings):
    made = []
    for k, setting in enumerate(settings):
        cfg = load(tmp_path / f"{k}", *setting.split(), "hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path}")
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            cfg.hydra.sweep.subdir = str(k)
        made.append(cfg)
    return made


def test_a_configuration_is_what_a_result_depends_on_and_not_where_it_is(tmp_path):
    config = app.configuration(load(tmp_path), tmp_path)
    assert config["callbacks.gates.every_n_steps"] == 100
    assert config["callbacks.gradient_flow.path"] == "flow.csv"
    assert not any(key.startswith(("logger", "hydra")) for key in config)


def test_two_jobs_of_one_configuration_are_one_run(tmp_path):
    todo = sweep.prepare(made := jobs(tmp_path, "model.detach.gates=0", "seed=1", "++model.detach.gates=0.0"))
    assert [job.hydra.sweep.subdir for job in todo] == ["0", "1"]
    assert [job.hydra.sweep.subdir for job in made] == ["0", "1", "0"]


def test_a_sweep_taken_up_again_keeps_results_of_its_own_configuration_alone(tmp_path):
    made = jobs(tmp_path, "optimizer.lr=0.001")
    config = app.configuration(made[0], tmp_path / "0")
    write_record(tmp_path / "0", BARE | {"config": config})
    assert sweep.prepare(made) == []
    for change, said in (("optimizer.lr=0.1", "lr=0.001, not 0.1"), ("callbacks.stop_when_solved=null", "stop_when")):
        with pytest.raises(app.OptionError, match=f"was run with .*{said}"):
            sweep.prepare(jobs(tmp_path, "optimizer.lr=0.001 " + change if "lr" not in change else change))
    said = []
    (tmp_path / "0" / "result.json").write_text('{"stat')
    assert len(sweep.prepare(made, said.append)) == 1
    assert "set aside" in said[0]


def test_a_checkpoint_that_does_not_serve_is_told_when_the_sweep_begins(tmp_path):
    made = jobs(tmp_path, "seed=0")
    config = app.configuration(made[0], tmp_path / "0")
    write_record(tmp_path / "0", BARE | {"status": "interrupted", "config": config})
    broken = tmp_path / "0" / "checkpoints" / "progress.ckpt"
    broken.parent.mkdir()
    broken.write_text("cut off")
    said = []
    assert len(sweep.prepare(made, said.append)) == 1
    assert len(said) == 1
    assert said[0].startswith("set aside: ")
    assert "0/checkpoints/progress.ckpt.unreadable does not serve to go on from: " in said[0]
    assert not broken.exists()


def test_results_of_another_cell_of_the_same_name_are_not_taken_for_the_same(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "cells_of_my_own.py"
    file.write_text("import carousel\n\n\nclass Mine(carousel.GRUCell):\n    pass\n")
    made = jobs(tmp_path, "model=custom model.cell.path=cells_of_my_own.Mine")
    config = app.configuration(made[0], tmp_path / "0")
    assert [key for key in config if key.endswith("_code_")] == ["model.cell._code_"]
    write_record(tmp_path / "0", BARE | {"config": config})
    assert sweep.prepare(made) == []
    file.write_text(file.read_text() + "    keep_gate = None\n")
    with pytest.raises(app.OptionError, match=r"was run with model\.cell\._code_="):
        sweep.prepare(made)


def test_results_of_other_versions_are_kept_and_that_is_said_once(tmp_path):
    made = jobs(tmp_path, "seed=0", "seed=1")
    for k, job in enumerate(made):
        HydraConfig.instance().set_config(job)
        config = app.configuration(job, tmp_path / f"{k}")
        versions = environment() | {"torch": "0.4", "git": "cafe"}
        write_record(tmp_path / f"{k}", BARE | {"config": config, "versions": versions})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert sweep.prepare(made) == []
    said = [str(w.message) for w in caught if "results that are there" in str(w.message)]
    assert len(said) == 2
    assert "made with torch 0.4, not " in said[0]
    assert "made with git cafe, not " in said[1]


def test_two_runs_of_a_sweep_do_not_write_to_one_file(tmp_path):
    path = f"callbacks.gradient_flow.path={tmp_path}/flow"
    with pytest.raises(app.OptionError, match="callbacks: several runs would be written to "):
        sweep.prepare(jobs(tmp_path, f"seed=0 {path}", f"seed=1 {path}"))
    assert len(sweep.prepare(jobs(tmp_path, f"seed=0 {path}", f"seed=1 {path}2"))) == 2


def test_the_seeds_of_a_sweep_are_all_checked_before_it_begins(tmp_path):
    for setting, line in (("seed=1.5", "seed must be"), ("data_seed=-1", "data_seed must be an integer of at least 0")):
        with pytest.raises(app.OptionError, match=line):
            sweep.prepare(jobs(tmp_path, "seed=0", setting))


def test_a_key_from_the_command_line_reaches_every_run_that_has_it(tmp_path):
    def typed(*options):
        cfg = load(tmp_path, "experiment=phase")
        sweeper = instantiate(cfg.hydra.sweeper)
        sweeper.config = cfg
        with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            return list(itertools.chain(*batches(sweeper, *options, loader=loader)))

    steps = typed("trainer.max_steps=50")
    assert len(steps) == 156
    assert all("trainer.max_steps=50" in run for run in steps)
    gains = [run for run in typed("model.init.gain=0.5") if "model.init.gain=0.5" in run]
    assert len(gains) == 18
    assert all("model=rnn_orthogonal" in run for run in gains)
