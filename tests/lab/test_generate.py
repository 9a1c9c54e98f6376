"""A text continued by the model of a run, in a process of its own and without the text that it learnt."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from commands import HANGS

import carousel
from carousel.lab import continued, generate, load
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule
from carousel.lab.tasks import Adding

ROOT = Path(__file__).parents[2]


def call(cwd, script, *arguments):
    command = [sys.executable, ROOT / "scripts" / script, *arguments]
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=HANGS)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("If the jury praises the city, the city praises the jury.\n\n" * 40)
    options = ["task=characters", "task.path=text.txt", "task.chunk=16", "model.hidden_size=16", "batch_size=4"]
    options += ["trainer.max_steps=60", "trainer.val_check_interval=30", "optimizer.lr=2e-2", "hydra.run.dir=one"]
    code, _, errors = call(folder, "train.py", *options, "callbacks.gates=null", "callbacks.gradient_flow=null")
    assert code == 0, errors
    return folder / "one"


def test_a_run_shows_a_text(run):
    text = (run / "examples" / "continued_text.txt").read_text()
    assert "--- temperature 0.8: after 'If the jury praises the city, the city praises the" in text


def test_the_script_continues_a_text_without_the_one_it_was_trained_on(run, tmp_path):
    options = ["--prompt", "If the jury", "--length", "30", "--temperature", "0.7", "--seed", "3"]
    module = load(run)
    expected = "If the jury" + continued(module, "If the jury", 30, 0.7, 3) + "\n"
    (run.parent / "text.txt").rename(tmp_path / "moved.txt")
    code, out, errors = call(tmp_path, "generate.py", run, *options)
    (tmp_path / "moved.txt").rename(run.parent / "text.txt")
    assert (code, out, errors) == (0, expected, "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "--prompt", "a"], "nowhere"),
        ([None, "--prompt", ""], "error: the prompt must have a symbol at least"),
        ([None, "--prompt", "a", "--temperature", "-1"], "error: temperature must be at least 0, got -1.0"),
    ],
)
def test_what_is_wrong_is_one_line(run, monkeypatch, capsys, arguments, line):
    monkeypatch.setattr(sys, "argv", ["generate.py", *(str(run) if a is None else a for a in arguments)])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which it changes
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as end:
        generate.main()
    assert line in end.value.code  # printed to stderr, with status 1
    assert "\n" not in end.value.code
    assert capsys.readouterr() == ("", "")


def test_a_model_of_another_task_continues_nothing():
    module = SequenceModule(SequenceModel(carousel.LSTM(2, 4, batch_first=True), Adding(8)), Adding(8))
    with pytest.raises(ValueError, match="Adding is no task of text"):
        continued(module, "a")
