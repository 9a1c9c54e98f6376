import json
import shutil

import pytest
from records import make_run

from carousel.lab.results import collect, environment, read_record, write, write_record


def test_collect_gathers_every_run_failures_included(tmp_path):
    make_run(tmp_path, "rnn", 10)
    make_run(tmp_path, "lstm", 10, val_loss=0.001)
    make_run(tmp_path, "lstm", 20, status="failed")
    results, flow, curves = collect(tmp_path)
    assert results["label"].tolist() == ["lstm", "lstm", "rnn"]
    assert results["status"].tolist() == ["finished", "failed", "finished"]
    assert results["solved"].tolist() == [True, False, False]
    assert results.loc[0, "test/loss"] == 0.001
    assert results.loc[0, "config.batch_size"] == 32
    assert results.loc[0, "versions.torch"] == "2"
    assert len(flow) == 2 * 2 * 2 * 10  # the failed run's curves stay out
    assert curves["val/loss"].dropna().tolist() == [0.2, 0.001, 0.2, 0.15]


def test_a_label_is_the_model_and_whatever_else_was_varied(tmp_path):
    make_run(tmp_path, "rnn", 10, **{"optimizer.lr": "0.1", "batch_size": "8"})
    make_run(tmp_path, "rnn", 20, seed=1, **{"optimizer.lr": "0.2", "batch_size": "8"})
    make_run(tmp_path, "lstm", 20, **{"batch_size": "8"})
    results, _, _ = collect(tmp_path)
    assert results["label"].tolist() == ["lstm", "rnn optimizer.lr=0.1", "rnn optimizer.lr=0.2"]


def test_a_label_names_what_varies_in_one_model_alone_for_that_model_alone(tmp_path):
    for gain in ("0.6", "0.8"):
        make_run(tmp_path, "rnn_orthogonal", 10, **{"model.init.gain": gain})
    for value in ("0", "1"):
        make_run(tmp_path, "lstm_forget1", 10, **{"model.init.value": value})
    assert collect(tmp_path)[0]["label"].tolist() == [
        "lstm_forget1 model.init.value=0",
        "lstm_forget1 model.init.value=1",
        "rnn_orthogonal model.init.gain=0.6",
        "rnn_orthogonal model.init.gain=0.8",
    ]


def test_a_label_tells_apart_what_only_the_configuration_says(tmp_path):
    for name, lr in (("a", 0.1), ("b", 0.2)):
        folder = make_run(tmp_path / name, "rnn", 10)
        record = read_record(folder)
        record["config"]["optimizer.lr"] = lr
        write_record(folder, record)
    assert collect(tmp_path)[0]["label"].tolist() == ["rnn optimizer.lr=0.1", "rnn optimizer.lr=0.2"]


def test_tables_of_an_earlier_report_stand_in_for_runs(tmp_path):
    make_run(tmp_path / "runs", "rnn", 10)
    results, flow, curves = collect(tmp_path / "runs")
    results.to_csv(tmp_path / "results.csv", index=False)
    flow.to_csv(tmp_path / "gradient_flow.csv.gz", index=False)
    curves.to_csv(tmp_path / "loss_curves.csv", index=False)
    shutil.rmtree(tmp_path / "runs")
    again = collect(tmp_path)
    assert again[0]["label"].tolist() == results["label"].tolist()
    assert len(again[1]) == len(flow)
    assert again[2]["val/loss"].dropna().tolist() == curves["val/loss"].dropna().tolist()


def test_without_git_there_is_no_commit_and_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["git"] is None


def test_nothing_to_collect_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run"):
        collect(tmp_path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write(path, lambda part: part.write_text("whole"))

    def broken(part):
        part.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(path, broken)
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = {"status": "finished", "metrics": {"val/loss": 0.5, "x": None}}
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert json.loads((tmp_path / "result.json").read_text()) == record


def test_the_environment_names_the_versions():
    import torch

    assert environment()["torch"] == torch.__version__
