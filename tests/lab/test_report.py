"""The sentences follow from the numbers: other numbers, other sentences."""

import io

import pandas as pd
import pytest
from made_up import make_run
from rich.console import Console

from carousel.lab import figures
from carousel.lab.records import collect, list_runs, names
from carousel.lab.report import MARK, write_report
from carousel.lab.terminal import table

FILES = {"results.csv", "gradient_flow.csv", "loss_curves.csv", "measurements.csv", "report.md", "report.html"}
FIGURES = {"gradient_flow.png", "solved.png", "loss_curves.png"}


def files(folder):
    return {p.name for p in folder.iterdir() if p.is_file()}


def report(folder, **options):
    """The text of a report in which everything could be drawn."""
    assert write_report(collect(folder), folder, **options) == []
    return (options.get("output", folder) / "report.md").read_text()


def test_the_report_on_a_sweep(tmp_path):
    make_run(tmp_path, "rnn", 20, rate=0.2)
    make_run(tmp_path, "lstm", 20, rate=0.3)
    make_run(tmp_path, "lstm", 10, rate=0.3, val_loss=0.001)
    make_run(tmp_path, "lstm", 40, status="failed")
    text = report(tmp_path)
    assert files(tmp_path) == FILES | FIGURES
    assert text.startswith(MARK)
    assert "4 runs (3 finished and 1 failed), 0.1 minutes of computing in all; runs per setting: 1." in text
    assert "| `task` | adding |" in text
    assert "| `task.seq_len`" not in text  # these made-up runs do not say it
    assert "(0.1667 on adding), within 100 training steps." in text
    assert "| `lstm` | 1/1; 100 steps | 0/1; loss 0.90 |" in text
    assert "| `rnn` |  | 0/1; loss 0.90 |" in text
    assert "The largest share is solved by `lstm` (1 of 2 runs)." in text
    assert "| `lstm` | ∂L/∂h | 0.501 | 0.501 | 6 | all |" in text  # 10**-0.3
    assert "| `rnn` | ∂L/∂h | 0.631 | 0.631 | 6 | all |" in text  # 10**-0.2
    assert "2 of 3 runs end within 20% of the baseline's loss or above it" in text
    (line,) = [line for line in text.splitlines() if "failed: ValueError: it broke" in line]
    assert (tmp_path / line.partition("(<")[2].partition(">)")[0] / "result.json").exists()


def test_the_jump_and_the_rate_are_told_apart(tmp_path):
    folder = make_run(tmp_path, "rnn", 20)
    flow = pd.read_csv(folder / "flow.csv")
    flow["log10_norm"] = -0.1 * flow["lag"] - (flow["lag"] > 0)
    flow.to_csv(folder / "flow.csv", index=False)
    assert "| `rnn` | ∂L/∂h | 0.079 | 0.794 | 6 | all |" in report(tmp_path)


def test_seeds_that_are_missing_are_said(tmp_path):
    make_run(tmp_path, "rnn", 20, rate=0.3)
    make_run(tmp_path, "gru", 20, rate=0.2, val_loss=0.001, seed=0)
    make_run(tmp_path, "gru", 20, rate=0.2, val_loss=0.001, seed=1)
    make_run(tmp_path, "gru", 20, seed=2, status="running")
    text = report(tmp_path)
    assert "runs per setting: 1 to 3." in text
    assert "| `gru` | 2/2; 100 steps (1 more unfinished) |" in text


def test_it_is_idempotent_and_works_on_what_is_there(tmp_path):
    make_run(tmp_path, "rnn", 20, status="running")
    report(tmp_path)
    assert files(tmp_path) == FILES  # nothing finished, so nothing to draw
    make_run(tmp_path, "rnn", 10)
    first = report(tmp_path), (tmp_path / "results.csv").read_bytes()
    assert (report(tmp_path), (tmp_path / "results.csv").read_bytes()) == first


def test_a_run_without_measures_is_reported_all_the_same(tmp_path):
    folder = make_run(tmp_path, "rnn", 10)
    for name in ("flow.csv", "metrics.csv", "probes.csv"):
        (folder / name).unlink()
    report(tmp_path)
    assert files(tmp_path) == FILES | {"solved.png"}


def test_a_table_that_cannot_be_read_is_in_the_report(tmp_path):
    (make_run(tmp_path, "rnn", 10) / "flow.csv").write_text("")
    assert "finished: flow.csv cannot be read" in report(tmp_path)


def test_a_figure_that_cannot_be_drawn_is_named_and_the_others_are_drawn(tmp_path, monkeypatch):
    make_run(tmp_path, "rnn", 10)
    monkeypatch.setattr(figures, "solved", lambda *_: 1 / 0)
    said = "solved.png was not drawn: ZeroDivisionError: division by zero"
    assert write_report(collect(tmp_path), tmp_path) == [said]
    assert files(tmp_path) == FILES | FIGURES - {"solved.png"}
    assert f"- {said}" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", ["report.md", "results.csv", "solved.png"])
def test_what_others_wrote_is_not_written_over(tmp_path, name):
    make_run(tmp_path / "runs", "rnn", 10)
    (tmp_path / "runs" / name).write_text("mine")
    with pytest.raises(FileExistsError, match=name):
        report(tmp_path / "runs")
    assert files(tmp_path / "runs") == {name}
    assert (tmp_path / "runs" / name).read_text() == "mine"
    assert "| `rnn` | 0/1; loss 0.90 |" in report(tmp_path / "runs", output=tmp_path / "elsewhere")
    assert files(tmp_path / "elsewhere") == FILES | FIGURES


def test_the_best_value_of_a_key_is_chosen_and_said(tmp_path):
    for lr, loss in ((1e-3, 0.15), (1e-2, 0.001)):
        for seed in (0, 1):
            make_run(tmp_path, "rnn", 10, seed, val_loss=loss, config={"optimizer.lr": lr})
    text = report(tmp_path, key="optimizer.lr")
    assert "`optimizer.lr` was chosen for each setting on validation data, of 0.001 and 0.01" in text
    assert "| `rnn` | 0.01 |" in text
    assert "| `rnn` | 2/2; 100 steps |" in text
    assert len(pd.read_csv(tmp_path / "results.csv")) == 4


def test_an_experiment_shows_the_best_learning_rate_of_each_model(tmp_path):
    for model, good in (("rnn", 1e-3), ("lstm", 1e-2)):
        for lr in (1e-3, 1e-2):
            loss = 0.001 if lr == good else 0.15
            config = {"optimizer.lr": lr, "trainer.max_steps": 900}
            make_run(tmp_path, model, 10, val_loss=loss, config=config, experiment="vanishing_gradients")
    text = report(tmp_path)
    assert "| `lstm` | 0.01 |" in text
    assert "| `rnn` | 0.001 |" in text
    assert "| `rnn` | 1/1; 100 steps |" in text


def test_settings_are_in_the_order_of_their_numbers(tmp_path):
    for h in (16, 4, 8):
        make_run(tmp_path, "gru", 10, config={"model.hidden_size": h})
    text = report(tmp_path)
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `h=")]
    assert list(dict.fromkeys(rows)) == rows[:3] == ["h=4", "h=8", "h=16"]
    console = Console(width=80, file=io.StringIO())
    console.print(table(collect(tmp_path).results))
    shown = console.file.getvalue()
    assert shown.index("h=4") < shown.index("h=8") < shown.index("h=16")


def test_names():
    assert [names(x) for x in (["a"], ["a", 2], ["a", "b", "c"])] == ["a", "a and 2", "a, b and c"]


def test_runs_that_were_not_begun_are_counted_and_named(tmp_path):
    run = make_run(tmp_path, "rnn", 10)
    list_runs(tmp_path, [run.name, "seed=1", "seed=2"])
    write_report(collect(tmp_path), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "3 runs (1 finished and 2 not begun)" in text
    assert "- seed=1: not begun\n- seed=2: not begun" in text
    list_runs(tmp_path, [f"seed={k}" for k in range(3, 20)])
    write_report(collect(tmp_path), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.count(": not begun") == 10
    assert text.strip().endswith("- seed=10: not begun\n- and 9 more that are not begun")


def test_what_counts_as_solved_is_what_the_runs_stopped_at(tmp_path):
    stop = "callbacks.stop_when_solved"
    config = {f"{stop}.monitor": "val/within_0.04", f"{stop}.at_least": 0.9996}
    make_run(tmp_path, "rnn", 20, val_loss=0.001, config=config)
    assert "Solved means val/within_0.04 of at least 0.9996, within 100 training steps." in report(tmp_path)
