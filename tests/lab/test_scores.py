"""Where nothing counts as solved, reports compare test scores with the baselines'."""

import pandas as pd
import pytest
from made_up import make_run

from carousel.lab import scores
from carousel.lab.records import by_goal, collect, read_record, write_record
from carousel.lab.report import write_report
from carousel.lab.style import looks
from carousel.lab.terminal import legend, table


@pytest.fixture
def runs(tmp_path):
    """Two models with two seeds each on a task of real data, and one on a task that can be solved."""
    for model, seed, accuracy in (("rnn", 0, 0.5), ("rnn", 1, 0.7), ("lstm", 0, 0.8), ("lstm", 1, 0.9)):
        metrics = {"test/accuracy": accuracy, "test/loss": 1 - accuracy}
        folder = make_run(tmp_path, model, 12, seed, task="speech", metrics=metrics)
        known = {"most frequent class": {"loss": 2.0, "accuracy": 0.1}, "dtw": {"loss": 0.4, "accuracy": 0.85}}
        write_record(folder, read_record(folder) | {"seq_len": None, "solved": None, "baselines": known})
    make_run(tmp_path, "rnn", 12, val_loss=0.01)
    return tmp_path


def test_the_table_has_the_baselines_and_the_spread_over_seeds(runs):
    results = collect(runs).results
    (text,) = scores.tables(results[results["solved"].isna()])
    assert text.splitlines() == [
        "| speech, on test data | loss | accuracy |",
        "| --- | ---: | ---: |",
        "| most frequent class | 2 | 0.1 |",
        "| dtw | 0.4 | 0.85 |",
        "| `lstm` | 0.15 (0.1 to 0.2) | 0.85 (0.8 to 0.9) |",
        "| `rnn` | 0.4 (0.3 to 0.5) | 0.6 (0.5 to 0.7) |",
    ]


def test_the_figure_has_a_point_a_run_and_a_line_a_baseline(runs):
    results = collect(runs).results
    rest = results[results["solved"].isna()]
    (ax,) = scores.figure(rest, looks(results)).axes
    points = {tuple(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "None"}
    assert points == {(0.8, 0.9), (0.5, 0.7)}
    said = {line.get_label(): list(line.get_xdata())[:1] for line in ax.lines if line.get_label()[0] != "_"}
    assert said == {"most frequent class": [0.1], "dtw": [0.85]}
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["LSTM", "RNN"]


def test_the_baselines_names_hide_no_axis(runs):
    results = collect(runs).results
    figure = scores.figure(results[results["solved"].isna()], looks(results))
    figure.savefig("/dev/null", format="png")
    (ax,) = figure.axes
    box = ax.get_legend().get_window_extent()
    assert 0 <= box.y0 < box.y1 < ax.xaxis.label.get_window_extent().y0


def test_a_report_tells_both_kinds_of_task(runs):
    tables = collect(runs)
    assert write_report(tables, runs) == []
    text = (runs / "report.md").read_text()
    assert "## What is solved" in text
    assert "| `rnn` | 1/1; 100 steps |" in text
    assert "## What is reached" in text
    assert "| `lstm` | 0.15 (0.1 to 0.2) | 0.85 (0.8 to 0.9) |" in text
    assert (runs / "scores.png").is_file()
    assert "nan" not in text
    assert legend(tables.results) == [
        "training steps until solved, or ✗ and the final validation loss; the baseline's is 0.167 (adding)",
        "test loss on speech; the baselines' are 2 (most frequent class) and 0.4 (dtw)",
    ]
    assert len(table(tables.results).rows) == 3


def test_the_tables_can_be_read_back(runs, tmp_path):
    results = collect(runs).results
    results.to_csv(tmp_path / "results.csv", index=False)
    again = pd.read_csv(tmp_path / "results.csv")
    assert scores.tables(again[again["solved"].isna()]) == scores.tables(results[results["solved"].isna()])


def test_a_baseline_far_from_the_runs_is_told_and_does_not_squeeze_them(runs):
    results = collect(runs).results
    rest = results[results["solved"].isna()].assign(**{"baseline.most frequent class.test/accuracy": -9.0})
    (ax,) = scores.figure(rest, looks(results)).axes
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["most frequent class: -9, out of sight", "dtw"]
    assert ax.get_xlim()[0] > 0


def test_a_failed_run_does_not_turn_a_task_into_one_that_is_solved(runs):
    folder = make_run(runs, "gru", 12, status="failed", task="speech")
    write_record(folder, read_record(folder) | {"seq_len": None, "solved": None, "baseline_loss": None})
    folder = make_run(runs, "gru", 12, status="failed")
    write_record(folder, read_record(folder) | {"solved": None})
    results = collect(runs).results
    goal, rest = by_goal(results)
    assert set(goal["task"]) == {"adding"}
    assert goal["solved"].tolist() == [False, True]
    assert set(rest["task"]) == {"speech"}
