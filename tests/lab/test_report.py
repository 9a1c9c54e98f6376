"""The sentences follow from the numbers: other numbers, other sentences."""

import io

import pandas as pd
import pytest
from records import make_run
from rich.console import Console

from carousel.lab.report import decay, names, table, write_report

FILES = {"results.csv", "gradient_flow.csv", "loss_curves.csv", "report.md"}
FIGURES = {"gradient_flow.png", "solved.png", "loss_curves.png"}


def files(folder):
    return {p.name for p in folder.iterdir() if p.is_file()}


def test_the_report_on_a_sweep(tmp_path):
    make_run(tmp_path, "rnn", 20, rate=0.2)
    make_run(tmp_path, "lstm", 20, rate=0.3)
    make_run(tmp_path, "lstm", 10, rate=0.3, val_loss=0.001)
    make_run(tmp_path, "lstm", 40, status="failed")
    write_report(tmp_path)
    assert files(tmp_path) == FILES | FIGURES
    text = (tmp_path / "report.md").read_text()
    assert "4 runs (3 finished and 1 failed)" in text
    assert "`lstm` solves 10 and fails at 20." in text
    assert "`rnn` fails at 20." in text
    assert "by 0.501 (`lstm`) and 0.631 (`rnn`)" in text  # 10**-0.3 and 10**-0.2
    assert "`lstm` keeps less of it than `rnn`" in text
    assert "from 6 to 19 for `lstm` (0 of 1 solved) and from 6 to 19 for `rnn` (0 of 1 solved)" in text
    assert "2 of 3 runs end within 20% of the chance level or above it" in text
    assert "failed: ValueError: it broke" in text


def test_other_numbers_give_other_sentences(tmp_path):
    make_run(tmp_path, "rnn", 20, rate=0.3)
    make_run(tmp_path, "lstm", 20, rate=0.2, val_loss=0.001, seed=0)
    make_run(tmp_path, "lstm", 20, rate=0.2, seed=1)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "seeds per setting: 1 to 2." in text
    assert "`lstm` sometimes solves 20 (50% of seeds)." in text
    assert "No model keeps less than `rnn`." in text
    assert "What did not finish" not in text


def test_it_is_idempotent_and_works_on_what_is_there(tmp_path):
    make_run(tmp_path, "rnn", 20, status="running")
    write_report(tmp_path)
    assert files(tmp_path) == FILES  # nothing finished, so nothing to draw
    make_run(tmp_path, "rnn", 10)
    write_report(tmp_path)
    first = (tmp_path / "report.md").read_bytes(), (tmp_path / "results.csv").read_bytes()
    write_report(tmp_path)
    assert ((tmp_path / "report.md").read_bytes(), (tmp_path / "results.csv").read_bytes()) == first


def test_a_run_without_measures_is_reported_all_the_same(tmp_path):
    folder = make_run(tmp_path, "rnn", 10)
    (folder / "flow.csv").unlink()
    (folder / "metrics.csv").unlink()
    write_report(tmp_path)
    assert files(tmp_path) == FILES | {"solved.png"}


def test_decay_is_the_factor_per_step():
    assert decay(pd.Series([0.0] + [-0.5] * 9 + [-2.0] + [-9.0] * 5)) == pytest.approx(10**-0.2)
    assert decay(pd.Series([0.0, -1.0])) == pytest.approx(0.1)


def test_names():
    assert [names(x) for x in (["a"], ["a", 2], ["a", "b", "c"])] == ["a", "a and 2", "a, b and c"]


def test_the_table_fits_a_narrow_terminal_with_all_its_numbers(tmp_path):
    for length in (10, 20, 40, 80, 160):
        config = {"model.init.gain": 1.6, "optimizer.lr": 0.001, "trainer.max_steps": 2000}
        make_run(tmp_path, "rnn_orthogonal", length, val_loss=0.1234, config=config)
        make_run(tmp_path, "lstm", length, val_loss=0.001)
    console = Console(width=80, file=io.StringIO())
    console.print(table(write_report(tmp_path)))
    shown = console.file.getvalue()
    assert shown.count("✗ 0.1234") == 5
    assert shown.count("100") == 5
