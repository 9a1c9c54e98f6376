"""What TensorBoard is told of a sweep, read back from its files."""

import json
import math
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from events import hparams, read
from made_up import make_run
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from carousel.lab import dashboard, summary
from carousel.lab.records import FLOW, collect, read_record, write_record
from carousel.lab.report import write_report


def test_a_report_leaves_one_summary_however_often_it_is_written(tmp_path):
    for h, model in ((4, "rnn"), (16, "gru")):
        extra = {"model.init.gain": 1.5} if model == "rnn" else {}
        for lr in (0.1, 0.01):
            make_run(tmp_path, model, 10, config={"model.hidden_size": h, "optimizer.lr": lr} | extra)
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / "events.out.tfevents.1.mine").write_bytes(b"")
    for _ in range(2):
        assert write_report(collect(tmp_path), tmp_path) == []
    names = [path.name for path in (tmp_path / "summary").iterdir() if path.is_file()]
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
    (value,) = summary.columns(collect(folder)).value
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
    assert summary._domain([1, 2.5]).values == [1.0, 2.5]
    assert summary._domain(["b", "a"]).values == ["a", "b"]
    assert summary._domain([1, "a"]) is summary._domain([1.0, math.nan]) is None
    assert summary._domain(list(range(30))).max_value == 29


@pytest.mark.parametrize(("models", "state"), [(["lstm"], "c"), (["lstm", "rnn"], "h")])
def test_the_link_pins_the_loss_and_the_gradient_and_memory_length_of_what_all_models_have(tmp_path, models, state):
    for model in models:
        flow = make_run(tmp_path, model, 10) / FLOW
        if model == "rnn":  # which has no c
            pd.read_csv(flow).query("state == 'h'").to_csv(flow, index=False)
    query = parse_qs(urlsplit(summary.link(collect(tmp_path))).query)
    assert query["smoothing"] == ["0"]
    assert ("runColorGroup" in query) == (len(models) > 1)
    assert [card["tag"] for card in json.loads(query["pinnedCards"][0])] == [
        "1_loss/val",
        f"4_gradient_against_lag/log10_dL_d{state}_at_init",
        f"4_gradient_against_lag/log10_dL_d{state}_at_end",
        f"6_memory_length/{state}",
    ]


def shown(events) -> dict[str, list[tuple[int, float]]]:
    return {name: [(e.step, round(e.value, 4)) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.fixture
def swept(tmp_path):
    """Two models and lengths, two seeds of each; the gradient falls by half a decade per lag, and theory says 0.4."""
    for model, solves in (("rnn", 10), ("gru", 20)):
        for seq_len in (10, 20):
            for seed in (0, 1):
                loss = 0.001 if seq_len <= solves and (model, seed) != ("rnn", 1) else 0.1 + 0.05 * seed
                metrics = {"val/baseline_best constant": 1 / 6}
                folder = make_run(tmp_path, model, seq_len, seed, val_loss=loss, metrics=metrics)
                flow = pd.read_csv(folder / FLOW)
                flow["predicted"] = (-0.4 * flow["lag"]).where((flow["step"] == 0) & (flow["lag"] < 3))
                flow.to_csv(folder / FLOW, index=False)
    assert write_report(collect(tmp_path), tmp_path) == []
    return tmp_path / "summary"


def test_the_answer_stands_against_what_was_swept(swept):
    rnn, gru = (shown(read(swept / f"model={model}")) for model in ("rnn", "gru"))
    name = "0_answer/share solved against seq_len"
    assert rnn[name] == [(10, 0.5), (20, 0)]
    assert gru[name] == [(10, 1), (20, 1)]
    name = "answer/test loss against seq_len"
    assert rnn[f"0_{name}"] == [(10, round((0.001 + 0.15) / 2, 4)), (20, 0.125)]
    assert rnn["11_over_seeds/test loss against seq_len, min"] == [(10, 0.001), (20, 0.1)]
    assert rnn["11_over_seeds/test loss against seq_len, max"] == [(10, 0.15), (20, 0.15)]


def test_bands_stand_beside_the_baselines_and_theory(swept):
    title = "11_over_seeds/adding, dL/dh, at initialisation, T = 20"
    rnn, theory = shown(read(swept / "model=rnn")), shown(read(swept / "theory,model=rnn"))
    assert rnn[title][:3] == [(0, 0), (1, -0.5), (2, -1)]
    assert theory[title] == [(0, 0), (1, -0.4), (2, -0.8)]
    assert not [tag for tag in rnn if "at initialisation, T = 10" in tag]  # the longest alone
    losses = "11_over_seeds/adding, validation loss, T = 20"
    (baseline,) = (run for run in swept.iterdir() if run.name.startswith("baseline="))
    assert {y for _, y in shown(read(baseline))[losses]} == {round(1 / 6, 4)}
    assert [step for step, _ in rnn[losses]] == [step for step, _ in rnn[f"{losses}, max"]]


def test_the_page_of_custom_scalars_has_a_band_for_each_setting(swept):
    content = read(swept).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = Layout.FromString(content)
    assert [category.title for category in layout.category] == [summary.ANSWER, summary.LOSS, summary.FLOW]
    cards = set().union(*(shown(read(folder)) for folder in swept.iterdir() if folder.is_dir()))
    for chart in (chart for category in layout.category for chart in category.chart):
        (series,) = chart.margin.series
        assert {series.value, series.lower, series.upper} <= cards


@pytest.mark.parametrize(
    ("widths", "expected"), [((4, 8), "config.model.hidden_size"), ((4,), None), (([4, 8], 8), None)]
)
def test_the_answer_stands_against_whole_numbers(tmp_path, widths, expected):
    for width in widths:
        make_run(tmp_path, "rnn", 10, config={"model.hidden_size": width})
    assert summary.swept(collect(tmp_path).results) == expected
