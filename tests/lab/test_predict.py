"""A saved model in a fresh process predicts as it did at the end of its training, and what it is given is checked."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict, read_write
from torch import nn

from carousel.lab import app, load
from carousel.lab.predict import predictions, sequences
from carousel.lab.tasks import Adding, Batch, Classification, Electricity, Recorded

PREDICT = Path(__file__).parents[2] / "scripts" / "predict.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and the module as its training left it."""
    folder, made, build = tmp_path_factory.mktemp("runs") / "run", [], app.build

    def remember(cfg, **options):
        made.append(build(cfg, **options))
        return made[-1]

    overrides = ["task=electricity", "task.window=48", "model.hidden_size=8", "trainer.max_steps=20"]
    with initialize_config_dir(str(app.conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*overrides, "~callbacks.gates", "~logger"], return_hydra_config=True)
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir = cfg.hydra.run.dir = str(folder)
    HydraConfig.instance().set_config(cfg)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "build", remember)
        app.run(cfg)
    ((_, module, _),) = made
    return folder, module.eval()


def predicted(*arguments):
    return subprocess.run([sys.executable, PREDICT, *arguments], capture_output=True, text=True)


@pytest.mark.short
def test_a_forecast_in_a_fresh_process_is_that_at_the_end_of_training(trained, tmp_path):
    folder, module = trained
    week = module.task.values()[-168:, None]
    (tmp_path / "new.csv").write_text("\n".join(["load", *map(repr, week[:, 0].tolist())]))
    done = predicted(folder, tmp_path / "new.csv")
    assert done.stderr == ""
    names, row = csv.reader(done.stdout.splitlines())
    with torch.no_grad():
        expected = module.task.answer(module(module.task.read(week[None])))[0]
    assert names == ["sequence", *(f"prediction_{k}" for k in range(1, 25))]
    assert row == ["0", *map(repr, expected.tolist())]


def test_one_series_in_each_kind_of_file(tmp_path):
    task = Electricity()
    week = task.values()[-168:, None].numpy()
    (tmp_path / "a.csv").write_text("\n".join(map(repr, week[:, 0].tolist())))
    np.save(tmp_path / "a.npy", week)
    np.savez(tmp_path / "a.npz", input=week[None])
    for suffix in ("csv", "npy", "npz"):
        assert torch.equal(sequences(tmp_path / f"a.{suffix}", task).input, task.read(torch.tensor(week)[None]))


def test_loading_gives_the_same_forecasts(trained):
    folder, module = trained
    test = module.task.split("test")
    assert torch.equal(load(folder, "last")(test.input), module(test.input))


def test_a_model_is_loaded_where_its_series_is_not(trained, monkeypatch):
    folder, module = trained
    week, expected = module.task.values()[None, -168:, None], module.task.read(module.task.values()[None, -168:, None])
    monkeypatch.setattr(Electricity, "values", lambda self: pytest.fail("the series is not there"))
    task = load(folder).task
    assert torch.equal(task.read(week), expected)
    assert task.answer(torch.zeros(1, 24))[0, 0] == pytest.approx(module.task.scale()[0])


def test_what_is_wrong_is_one_line(trained, tmp_path):
    (tmp_path / "short.csv").write_text("1\n2\n3\n")
    done = predicted(trained[0], tmp_path / "short.csv")
    line = f"error: {tmp_path / 'short.csv'}: a forecast needs the last 48 hours, got 3\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_files_that_are_none_are_refused(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        else:
            np.save(path, content)
        return path

    adding, two = Adding(5), np.zeros((2, 4, 2))
    for name, content, words in (
        ("a.csv", "", r"\(T, 2\) or \(B, T, 2\), got \(0,\)"),
        ("b.csv", "1,2,3\n4,5,6\n", r"got \(2, 3\)"),
        ("c.csv", "1,2\n4\n", "inhomogeneous"),
        ("d.csv", "a,b\n1,x\n", "could not convert"),
        ("e.csv", "1,nan\n", "not all values are finite"),
        ("f.txt", "1,2\n", "ends in .csv, .npy or .npz"),
        ("g.npz", {"x": two}, "input is not a file in the archive"),
        ("h.npz", {"input": two, "lengths": np.array([4, 5])}, "2 numbers from 1 to 4"),
        ("i.npz", {"input": two, "lengths": np.array([4])}, "2 numbers from 1 to 4"),
        ("j.npy", "nothing", "."),
        ("k.npy", np.array(["a"]), "."),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{words}"):
            sequences(write(name, content), adding)
    windows = {"input": np.ones((1, 200, 1)), "lengths": np.array([150])}
    with pytest.raises(ValueError, match="lengths are not for a task that reads a part"):
        sequences(write("l.npz", windows), Electricity())


class Tags(Recorded, Classification):
    input_size, output_size, symbols, every_step = 5, 3, True, True


def test_symbols_and_a_prediction_at_every_real_step(tmp_path):
    path, task = tmp_path / "a.npz", Tags()
    np.savez(path, input=np.array([[0, 1, 2], [3, 4, 0]]), lengths=np.array([3, 2]))

    class Module(nn.Module):
        def forward(self, x, lengths):
            return nn.functional.one_hot((x + 1) % 3, 3)

    module = Module()
    module.task = task
    assert predictions(module, sequences(path, task)) == (
        ["sequence", "step", "prediction"],
        [[0, 0, 1], [0, 1, 2], [0, 2, 0], [1, 0, 1], [1, 1, 2]],
    )
    (tmp_path / "b.csv").write_text("symbol\n4\n0\n")
    assert sequences(tmp_path / "b.csv", task).input.tolist() == [[4, 0]]
    for text in ("5", "0.5", "-1"):
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(ValueError, match="whole numbers from 0 to 4"):
            sequences(tmp_path / "c.csv", task)


def test_words_are_answers_too():
    class Module(nn.Module):
        task = Adding(3)

        def forward(self, x, lengths):
            return x.sum((1, 2))[:, None]

    module = Module()
    batch = Batch(torch.ones(2, 3, 2), torch.empty(0))
    assert predictions(module, batch) == (["sequence", "prediction"], [[0, 6.0], [1, 6.0]])
    object.__setattr__(module.task, "answer", lambda prediction: ["one", "other"])
    assert predictions(module, batch) == (["sequence", "prediction"], [[0, "one"], [1, "other"]])
