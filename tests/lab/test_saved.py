"""A trained model comes back from its run's folder, and nothing is run that the user has not named."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import HANGS
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict, read_write

import carousel.lab
from carousel.lab import app, saved
from carousel.lab.options import OptionError, make
from carousel.lab.records import read_record
from carousel.lab.tasks import Task

MODELS = ("rnn", "lstm_peephole", "min_gru", "indrnn", "janet_chrono", "nn_lstm", "slstm", "lem")
TINY = ("trainer.max_steps=12", "trainer.val_check_interval=4", "model.hidden_size=4", "eval_size=20")


def trained(folder, *overrides):
    """The folder of a tiny run."""
    with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*TINY, *overrides], return_hydra_config=True)
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(cfg)
    app.run(cfg)
    return folder


@pytest.mark.parametrize("model", ["lstm", "nn_gru", "lstm_chrono", "indrnn"])
@pytest.mark.parametrize("tested", ["last", "best"])
def test_a_loaded_model_predicts_as_it_did_when_it_was_tested(tmp_path, model, tested):
    run = trained(tmp_path / "run", f"model={model}", "task.seq_len=6", f"tested={tested}", "optimizer.lr=0.05")
    module = carousel.lab.load(run)
    assert not module.training
    record = read_record(run)
    data = app.SequenceData(module.task, 32, 20, 0)
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        assert float(module.loss(batch)) == record["metrics"]["test/loss"]
    assert module.configuration == record["config"]
    assert type(module.task).__name__ == "Adding"


def test_best_and_last_are_those_of_the_validation(tmp_path):
    run = trained(tmp_path / "run", "task.seq_len=6", "optimizer.lr=0.3", "tested=best")
    (batch,) = app.SequenceData(carousel.lab.load(run).task, 32, 20, 0).val_dataloader()
    with torch.no_grad():
        losses = {which: float(carousel.lab.load(run, which).loss(batch)) for which in ("best", "last")}
    assert losses["best"] < losses["last"]
    assert losses["best"] == read_record(run)["metrics"]["val/loss"]


@pytest.mark.short  # as they are there
def test_a_fresh_process_predicts_the_same_to_the_last_bit(tmp_path):
    run = trained(tmp_path / "run", "task.seq_len=6")
    code = (
        f"import carousel.lab, torch; m = carousel.lab.load({str(run)!r}); "
        "print(m(torch.linspace(0, 1, 12).view(1, 6, 2)).item().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANGS)
    here = carousel.lab.load(run)(torch.linspace(0, 1, 12).view(1, 6, 2))
    assert done.stdout.strip() == here.item().hex()


def test_a_class_that_the_user_has_not_named_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "own_cell.py").write_text(
        "import carousel\nprint('imported')\nclass OwnCell(carousel.LSTMCell):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = trained(tmp_path / "run", "model=custom", "model.cell.path=own_cell.OwnCell", "task.seq_len=6")
    with pytest.raises(PermissionError, match=r"model.cell.path is own_cell.OwnCell, which load\(..., trust="):
        carousel.lab.load(run)
    assert carousel.lab.load(run, trust=["own_cell.OwnCell"]).recurrent.cell().__class__.__name__ == "OwnCell"

    record = json.loads((run / "result.json").read_text())
    for target in (
        "os.system",
        "builtins.exec",
        "carousel.lab.app.os.system",
        "torch.hub.load",
        "carousel.lab.cli.main",
    ):
        record["config"]["model._target_"] = target
        (run / "result.json").write_text(json.dumps(record))
        with pytest.raises(PermissionError, match=target):
            carousel.lab.load(run, trust=["own_cell.OwnCell"])
    record["config"] |= {"model._target_": "carousel.LSTM", "model.init": [{"_target_": "os.system"}]}
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(PermissionError, match=r"model\.init\.0\._target_ is os.system"):
        carousel.lab.load(run, trust=["own_cell.OwnCell"])


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"result\.json"):
        carousel.lab.load(tmp_path)
    run = trained(tmp_path / "run", "task.seq_len=6", "callbacks.checkpoints=null")
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt does not exist"):
        carousel.lab.load(run)


def test_the_readmes_lines_use_models_on_new_data(tmp_path, monkeypatch, capsys):
    runs = tmp_path / "outputs" / "runs"
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"```py\n(.*?)```", readme, re.S)
    for name, task in (("text", "characters"), ("load", "electricity"), ("voice", "japanese_vowels")):
        trained(runs / name, f"task={task}", "eval_size=200", "callbacks.examples=null", "+trainer.limit_val_batches=1")
        code = code.replace(f"<{name}>", name)
    monkeypatch.chdir(tmp_path)
    given = {
        "hours": torch.full((1, 168, 1), 700.0),
        "utterances": torch.zeros(2, 9, 12),
        "lengths": torch.tensor([9, 7]),
    }
    exec(compile(code, "README.md", "exec"), given)
    assert len(given["load"].task.answer(torch.zeros(1, 24))[0]) == 24
    assert len(capsys.readouterr().out) > 200


def test_the_curves_end_with_the_last_weights_whichever_are_tested(tmp_path):
    curves = []
    for tested in ("last", "best"):
        run = trained(tmp_path / tested, "task.seq_len=6", "optimizer.lr=0.3", f"tested={tested}")
        curves.append((run / "metrics.csv").read_text().splitlines())
    values = [[line.split(",")[curve[0].split(",").index("val/loss")] for line in curve[1:]] for curve in curves]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    "added",
    [
        {"task._target_": "carousel.lab.tasks.custom", "task._args_": ["subprocess.Popen"], "task.args": "true"},
        {"model.x[_target_]": "shutil.copyfile"},
        {"model.x": "${oc.create:{_target_:shutil.copyfile}}"},
        {"model.init": [{"_target_": "shutil.copyfile"}]},
        {"task._target_": "carousel.lab.tasks.custom", "task.path": "subprocess.Popen"},
    ],
)
def test_no_way_of_naming_a_class_passes_unseen(tmp_path, added):
    run = trained(tmp_path / "run", "task.seq_len=6")
    record = json.loads((run / "result.json").read_text())
    record["config"] |= added
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(PermissionError):
        carousel.lab.load(run)


def test_a_model_comes_back_in_the_precision_of_its_training(tmp_path):
    run = trained(tmp_path / "run", "task.seq_len=6", "+trainer.precision=64-true")
    module = carousel.lab.load(run)
    (batch,) = app.SequenceData(module.task, 32, 20, 0).test_dataloader()
    with torch.no_grad():
        loss = module.loss(batch._replace(input=batch.input.double(), target=batch.target.double()))
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(
        read_record(run)["metrics"]["test/loss"], rel=1e-6
    )  # which was logged in float32


def test_what_does_not_fit_is_a_line(tmp_path):
    run = trained(tmp_path / "run", "task.seq_len=6")
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last\.ckpt does not fit"):
        carousel.lab.load(run)
    record = json.loads((run / "result.json").read_text())
    record["config"] = {k: x for k, x in record["config"].items() if not k.startswith(("encoder", "head"))}
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="it has no encoder and head"):
        carousel.lab.load(run)


def test_the_best_weights_are_not_claimed_where_there_are_none(tmp_path):
    with pytest.raises(ValueError, match="tested=best needs a validation in training"):
        trained(tmp_path / "run", "task.seq_len=6", "tested=best", "trainer.val_check_interval=100")


def test_the_task_of_the_page_trains_and_comes_back(tmp_path, monkeypatch):
    page = (Path(carousel.__file__).parent / "lab" / "tasks" / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "class Maximum" in block)
    assert len(code.splitlines()) < 30
    (tmp_path / "my_tasks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["task=custom", "task.path=my_tasks.Maximum", "+task.longest_sequence=40", "model=gru"]
    record = read_record(trained(tmp_path / "run", *options, "trainer.max_steps=300", "optimizer.lr=0.01"))
    assert record["task"] == "Maximum"
    assert record["metrics"]["test/loss"] < 0.2 * record["baselines"]["the number itself"]["loss"]
    module = carousel.lab.load(tmp_path / "run", trust=["my_tasks.Maximum"])
    assert module(torch.rand(2, 7, 1)).shape == (2, 7, 1)


def composed(*overrides):
    with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.parametrize(
    "options",
    [("task=temporal_order",), ("task=japanese_vowels", "+model.bidirectional=true", "+model.num_layers=2")],
)
@pytest.mark.parametrize("model", MODELS)
def test_models_of_equal_parameters_are_as_large_as_they_may_be(model, options):
    def parameters(cfg):
        module = saved.build_model(cfg, make("task", cfg.task, Task))
        return sum(p.numel() for p in module.parameters())

    cfg = composed(f"model={model}", *options, "model.hidden_size=${units:9000}")
    before = torch.get_rng_state()
    size = cfg.model.hidden_size
    assert torch.equal(torch.get_rng_state(), before)
    assert parameters(cfg) <= 9000
    cfg.model.hidden_size = size + 1
    assert parameters(cfg) > 9000


def test_heads_divide_the_units_of_equal_parameters():
    size = composed("model=slstm", "model.heads=4", "model.hidden_size=${units:9000}").model.hidden_size
    assert size % 4 == 0
    assert size > composed("model=slstm", "model.hidden_size=${units:9000}").model.hidden_size  # heads cost less


def test_options_that_are_told_elsewhere_are_known_where_parameters_are_equal():
    task = ("task=custom", "task.path=carousel.lab.reproduce.capacity.RandomBits", "+task.sequences=9")
    sizes = [composed(*task, f"+task.seed={seed}", "model.hidden_size=${units:500}") for seed in (0, "${data_seed}")]
    assert [cfg.model.hidden_size for cfg in sizes] == [7, 7]


@pytest.mark.parametrize("option", ["model.heads=many", "model.heads=0"])
def test_what_else_is_wrong_with_a_model_of_equal_parameters_is_named(tmp_path, option):
    with pytest.raises(OptionError, match=r"^error: model\.heads must be"):
        trained(tmp_path / "run", "model=slstm", option, "model.hidden_size=${units:9000}")


@pytest.mark.parametrize(
    ("asked", "said"),
    [("3", "is less than the smallest model has"), ("0", "of at least 1, got 0"), ("many", "of at least 1, got many")],
)
def test_a_number_of_parameters_that_no_model_has_is_refused(asked, said):
    with pytest.raises(OptionError, match=f"^error: model.hidden_size: .*{said}$"):
        _ = composed("model=gru", f"model.hidden_size=${{units:{asked}}}").model.hidden_size


def test_equal_parameters_are_not_for_projections():
    with pytest.raises(OptionError, match=r"^error: model.hidden_size: .* is not for a model with model\.proj_size"):
        _ = composed("model=lstm", "+model.proj_size=8", "model.hidden_size=${units:9000}").model.hidden_size
