"""What TensorBoard is told, read back from its files."""

import json
import math
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from made_up import make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from carousel.lab import dashboard
from carousel.lab.records import collect, read_record, write_record
from carousel.lab.report import write_report


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def hparams(events):
    found = events.summary_metadata
    content = {
        name: data.plugin_data.content for name, data in found.items() if data.plugin_data.plugin_name == "hparams"
    }
    return {name: HParamsPluginData.FromString(part) for name, part in content.items()}


def test_the_loss_comes_first_and_the_epoch_not_at_all(tmp_path):
    logger = dashboard.TensorBoard(tmp_path, name="", version="")
    names = (
        "epoch",
        "val/loss",
        "val/baseline_best constant",
        "test/within_0.04",
        "gates/f_mean",
        "memory_length/c",
        "mine/x",
    )
    logger.log_metrics(dict.fromkeys(names, 1.0), 5)
    logger.finalize("success")
    tags = sorted(read(tmp_path).Tags()["scalars"])
    assert tags == [
        "1_loss/baseline_best constant",
        "1_loss/val",
        "2_metrics/test_within_0.04",
        "6_memory_length/c",
        "7_gates/f_mean",
        "mine/x",
    ]


def test_a_run_writes_its_settings_and_outcome_but_no_columns(tmp_path):
    trainer = SimpleNamespace(loggers=[dashboard.TensorBoard(tmp_path, name="", version="")], global_step=60)
    record = {
        "model": "rnn",
        "task": "adding",
        "seq_len": 10,
        "solved": True,
        "steps": 60,
        "metrics": {"test/loss": 0.5},
    }
    record["config"] = {"optimizer.lr": 0.1, "train_size": None, "model.hidden_size": [4, 8], "model._target_": "x"}
    trainer.loggers[0].experiment.close()  # as the trainer leaves it
    dashboard.log_run(trainer, record, math.nan)
    events = read(tmp_path)
    found = hparams(events)
    assert set(found) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    values = found["_hparams_/session_start_info"].session_start_info.hparams
    assert set(values) == {"model", "task", "seq_len", "optimizer.lr", "train_size", "model.hidden_size"}
    assert values["model.hidden_size"].string_value == "[4, 8]"
    scalars = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    assert scalars == {"outcome/solved": 1, "outcome/steps": 60, "outcome/test_loss": 0.5}  # no horizon was measured


def test_a_report_leaves_one_summary_however_often_it_is_written(tmp_path):
    for h, model in ((4, "rnn"), (16, "gru")):
        extra = {"model.init.gain": 1.5} if model == "rnn" else {}
        for lr in (0.1, 0.01):
            make_run(tmp_path, model, 10, config={"model.hidden_size": h, "optimizer.lr": lr} | extra)
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / "events.out.tfevents.1.mine").write_bytes(b"")
    for _ in range(2):
        assert write_report(collect(tmp_path), tmp_path) == []
    names = [path.name for path in (tmp_path / "summary").iterdir()]
    assert len(names) == 2
    assert "events.out.tfevents.1.mine" in names
    (tmp_path / "summary" / "events.out.tfevents.1.mine").unlink()
    events = read(tmp_path / "summary")
    (columns,) = (found.experiment for found in hparams(events).values())
    assert [column.name for column in columns.hparam_infos] == ["model", "optimizer.lr", "task", "seq_len"]
    assert [column.name.tag for column in columns.metric_infos] == list(dashboard.OUTCOME.values())
    assert {"report/solved", "report/gradient_flow", "report/loss_curves"} == set(events.Tags()["images"])
    (text,) = events.Tensors("report/text_summary")
    assert (
        b"The largest share" in text.tensor_proto.string_val[0] or b"What is solved" in text.tensor_proto.string_val[0]
    )
    assert b"<!--" not in text.tensor_proto.string_val[0]


def test_the_columns_of_a_task_without_a_goal_are_its_metrics(tmp_path):
    """Of runs that lack the value of one column the parallel coordinates would show none."""
    for model in ("rnn", "gru"):
        folder = make_run(tmp_path, model, 10, metrics={"test/accuracy": 0.9, "val/accuracy": 0.8})
        write_record(folder, read_record(folder) | {"solved": None})
    assert columns_of(tmp_path) == {
        "training steps": "outcome/steps",
        "test loss": "outcome/test_loss",
        "gradient horizon (lags)": "outcome/gradient_horizon",
        "test accuracy": "2_metrics/test_accuracy",
    }
    make_run(tmp_path, "lstm", 10, task="latch")  # has another goal, and no such metric
    assert set(columns_of(tmp_path)) == {"training steps", "test loss", "gradient horizon (lags)"}


def test_of_runs_that_never_came_to_a_test_there_are_columns_too(tmp_path):
    folder = make_run(tmp_path, "rnn", 10)
    record = read_record(folder)
    metrics = {name: y for name, y in record["metrics"].items() if not name.startswith("test/")}
    write_record(folder, record | {"status": "interrupted", "metrics": metrics})
    assert "training steps" in columns_of(tmp_path)
    assert "test loss" not in columns_of(tmp_path)


def columns_of(folder):
    (value,) = dashboard.columns(collect(folder)).value
    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    return {metric.display_name: metric.name.tag for metric in content.experiment.metric_infos}


def test_the_report_as_text_has_the_settings_last(tmp_path):
    make_run(tmp_path, "rnn", 10)
    write_report(collect(tmp_path), tmp_path)
    (text,) = read(tmp_path / "summary").Tensors("report/text_summary")
    text = text.tensor_proto.string_val[0].decode()
    assert text.index("## What is solved") < text.index("## How the loss falls") < text.index("## Settings")
    assert "`batch_size` | 32" in text
    assert "<" not in text.replace("](<", "")


def test_a_summary_that_cannot_be_written_stops_no_report_and_elsewhere_there_is_none(tmp_path):
    make_run(tmp_path / "runs", "rnn", 10)
    assert write_report(collect(tmp_path / "runs"), tmp_path / "runs", tmp_path / "elsewhere") == []
    assert not (tmp_path / "elsewhere" / "summary").exists()
    (tmp_path / "runs" / "summary").write_text("mine")
    (line,) = write_report(collect(tmp_path / "runs"), tmp_path / "runs")
    assert line.startswith("TensorBoard's summary was not written")
    assert (tmp_path / "runs" / "report.md").exists()
    assert (tmp_path / "runs" / "summary").read_text() == "mine"


def test_a_column_has_values_of_one_kind():
    assert dashboard._domain([1, 2.5]).values == [1.0, 2.5]
    assert dashboard._domain(["b", "a"]).values == ["a", "b"]
    assert dashboard._domain([1, "a"]) is dashboard._domain([1.0, math.nan]) is None
    assert dashboard._domain(list(range(30))).max_value == 29


@pytest.mark.parametrize("models", [["lstm"], ["lstm", "rnn"]])
def test_the_link_pins_the_loss_the_gradient_and_the_memory_length(tmp_path, models):
    for model in models:
        make_run(tmp_path, model, 10)
    query = parse_qs(urlsplit(dashboard.link(collect(tmp_path))).query)
    assert query["smoothing"] == ["0"]
    assert ("runColorGroup" in query) == (len(models) > 1)
    assert [card["tag"] for card in json.loads(query["pinnedCards"][0])] == [
        "1_loss/val",
        "4_gradient_against_lag/log10_dL_dc_at_init",
        "4_gradient_against_lag/log10_dL_dc_at_end",
        "6_memory_length/c",
    ]
