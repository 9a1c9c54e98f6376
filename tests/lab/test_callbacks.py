"""What the callbacks measure and write, read back from the files."""

from functools import partial

import lightning as L
import pandas as pd
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import carousel
from carousel.gradients import flow, lyapunov, memory_length, paths, theory
from carousel.lab.callbacks import (
    Charts,
    Examples,
    GateStatistics,
    GradientFlow,
    GradientPaths,
    LargestLyapunovExponent,
    StopWhenSolved,
)
from carousel.lab.dashboard import TensorBoard, tag
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule
from carousel.lab.tasks import Adding, Batch


def fit(tmp_path, layer, callbacks, steps=20, lr=1e-2, **options):
    module = SequenceModule(SequenceModel(layer, Adding(8)), Adding(8), partial(torch.optim.Adam, lr=lr))
    data = SequenceData(Adding(8), 16, 64, 0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=TensorBoard(tmp_path, name="", version=""),
        callbacks=callbacks,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, data)
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    return trainer, module, data, events


@pytest.mark.parametrize("layer_type", [carousel.LSTM, nn.LSTM])
def test_gradient_flow_is_written_to_file_and_to_tensorboard(tmp_path, layer_type):
    torch.manual_seed(0)
    layer = layer_type(2, 8, batch_first=True)
    callback = GradientFlow(tmp_path / "flow.csv", every_n_steps=8, num_sequences=32)
    _, module, data, events = fit(tmp_path, layer, [callback])
    table = pd.read_csv(tmp_path / "flow.csv")
    assert sorted(table["step"].unique()) == [0, 8, 16, 20]
    assert len(table) == 4 * 2 * 8

    x, y, *_ = next(iter(data.val_dataloader()))
    now = flow(module.recurrent, lambda: module.loss(Batch(x[:32], y[:32])))[0].rms()
    for state in ("h", "c"):
        last = table[(table["step"] == 20) & (table["state"] == state)].set_index("lag")["log10_norm"]
        assert last.tolist() == pytest.approx(now[state].tolist(), abs=1e-3)
        curve = events.Scalars(tag(f"gradient_against_lag/log10_dL_d{state}_at_end"))
        assert [e.step for e in curve] == list(range(8))  # the lag is the step
        assert [e.value for e in curve] == pytest.approx((now[state] - now[state][0]).tolist(), abs=1e-3)
        memory = events.Scalars(tag(f"memory_length/{state}"))
        assert [e.step for e in memory] == [0, 8, 16, 20]
        assert memory[-1].value == memory_length(now[state])
        assert tag(f"gradient_flow/d{state}") in events.Tags()["images"]
    expected = [("memory_length", 0, "forward", state, memory_length(curve)) for state, curve in now.items()]
    assert callback.values[20] == expected


@pytest.mark.parametrize(
    "layer",
    [
        lambda: carousel.Recurrent(carousel.GRUCell, 2, [8, 4], num_layers=2, bidirectional=True, batch_first=True),
        lambda: nn.GRU(2, 4, 2, bidirectional=True, batch_first=True),
    ],
    ids=["widths 8 and 4", "nn.GRU"],
)
def test_layer_and_direction_are_columns_and_ends_of_tags(tmp_path, layer):
    torch.manual_seed(0)
    flows = GradientFlow(tmp_path / "flow.csv", None, 16)
    probes = [GateStatistics(None, 16), GradientPaths(None, 16), LargestLyapunovExponent(None, 16)]
    _, module, data, events = fit(tmp_path, layer(), [flows, *probes], steps=5)
    x, y = (part[:16] for part in next(iter(data.val_dataloader()))[:2])
    places = [(0, "forward"), (0, "reverse"), (1, "forward"), (1, "reverse")]
    table = pd.read_csv(tmp_path / "flow.csv").set_index(["step", "layer", "direction", "state", "lag"])["log10_norm"]
    assert table.index.is_unique
    assert len(table) == 2 * 4 * 8
    for place, found in zip(places, flow(module.recurrent, lambda: module.loss(Batch(x, y))), strict=True):
        assert table[(5, *place, "h")].tolist() == pytest.approx(found.rms()["h"].tolist(), abs=1e-3)
        end = "_layer{}_{}".format(*place)
        assert events.Scalars(tag(f"memory_length/h{end}"))[-1].value == memory_length(found.rms()["h"])
        assert tag(f"gradient_flow/dh{end}") in events.Tags()["images"]
        assert tag(f"gates/z_mean{end}") in events.Tags()["scalars"]
        assert tag(f"lyapunov/largest{end}") in events.Tags()["scalars"]
        assert tag(f"gates/log10_timescale_over_seq_len{end}") in events.Tags()["histograms"]
    seen = {(row.layer, row.direction) for row in probes[1].values[5]}
    assert seen >= {(0, "forward"), (0, "reverse"), (1, "forward")}


def test_curves_are_appended_and_a_second_try_begins_anew(tmp_path):
    path = tmp_path / "flow.csv"
    for _ in range(2):
        fit(tmp_path, carousel.RNN(2, 4, batch_first=True), [GradientFlow(path, 1, 8)], steps=3)
    table = pd.read_csv(path)
    assert table["step"].tolist() == [step for step in (0, 1, 2, 3) for _ in range(8)]


def test_a_heatmap_that_cannot_be_drawn_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr("carousel.lab.figures.heatmap", lambda *_: 1 / 0)
    callback = GradientFlow(tmp_path / "flow.csv", None, 8)
    with pytest.warns(UserWarning, match="heatmap of dh was not drawn: division by zero"):
        fit(tmp_path, carousel.RNN(2, 4, batch_first=True), [callback], steps=1)
    assert list(callback.values) == [0, 1]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_probes_measure_in_the_precision_of_the_training(tmp_path, precision):
    callbacks = [GradientFlow(tmp_path / "flow.csv", None, 8), GateStatistics(None, 8), GradientPaths(None, 8)]
    fit(tmp_path, carousel.LSTM(2, 4, batch_first=True), callbacks, steps=2, precision=precision)
    assert all(probe.values[2] for probe in callbacks)


def test_a_run_that_diverges_is_measured_no_more(tmp_path):
    callbacks = [GradientFlow(tmp_path / "flow.csv", None, 8)]
    callbacks += [kind(1, 8) for kind in (GateStatistics, GradientPaths, LargestLyapunovExponent)]
    trainer, _, _, _ = fit(tmp_path, carousel.RNN(2, 4, batch_first=True), callbacks, steps=4, lr=float("inf"))
    assert trainer.global_step == 2  # the first of them made its weights infinite
    assert callbacks[3].values[0]
    assert callbacks[3].values[2] == []


def test_what_a_probe_cannot_measure_of_a_sound_run_is_an_error(tmp_path):
    class Odd(GateStatistics):
        def measure(self, *_):
            raise ValueError("no such cell")

    with pytest.raises(ValueError, match="no such cell"):
        fit(tmp_path, carousel.RNN(2, 4, batch_first=True), [Odd(None, 8)], steps=1)


def test_measuring_does_not_change_the_training(tmp_path):
    weights = []
    probes = [kind(3, 16) for kind in (GateStatistics, GradientPaths, LargestLyapunovExponent)]
    for callbacks in ([], [GradientFlow(tmp_path / "flow.csv", 3, 16, predict=1000), *probes]):
        L.seed_everything(0, verbose=False)
        _, module, _, _ = fit(tmp_path / str(len(callbacks)), carousel.LSTM(2, 8, batch_first=True), callbacks)
        weights.append(module.recurrent.weight_hh_l0.detach())
    assert torch.equal(*weights)


@pytest.mark.parametrize(("layer_type", "gate"), [(carousel.LSTM, "f"), (nn.LSTM, "f"), (carousel.GRU, "z")])
def test_gates_and_timescales(tmp_path, layer_type, gate):
    layer = layer_type(2, 8, batch_first=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[8:12] = 1.0  # both f of an LSTM and z of a GRU are the second block
        layer.bias_ih_l0[12:16] = 3.0
    _, _, _, events = fit(tmp_path, layer, [GateStatistics(100, 16)], steps=1, lr=0.0)

    def logged(name):
        return events.Scalars(tag(f"gates/{name}"))[0].value

    values = torch.tensor([1.0, 3.0]).sigmoid()
    assert logged(f"{gate}_mean") == pytest.approx(values.mean().item())
    assert logged(f"{gate}_open") == 0.5
    assert logged(f"{gate}_closed") == 0.0
    assert logged("timescale_median") == pytest.approx(1 / (1 - values[0].item()), rel=1e-5)
    assert logged("timescale_share_beyond_seq_len") == 0.5  # the sequences have 8 steps, 1 / (1 - sigmoid(3)) is 21
    assert tag("gates/log10_timescale_over_seq_len") in events.Tags()["histograms"]
    candidate = {"f": "g", "z": "n"}[gate]
    assert tag(f"gates/{candidate}_mean") in events.Tags()["scalars"]


def test_a_cell_without_gates_logs_none(tmp_path):
    _, _, _, events = fit(tmp_path, carousel.RNN(2, 8, batch_first=True), [GateStatistics(5, 16)])
    assert not [tag for tag in events.Tags()["scalars"] if tag.startswith("gates")]


def test_the_ways_of_the_gradient_are_those_that_paths_measures(tmp_path):
    torch.manual_seed(0)
    callback = GradientPaths(None, 16)
    _, module, data, _ = fit(tmp_path, carousel.LSTM(2, 8, batch_first=True), [callback])
    assert list(callback.values) == [0, 20]
    x, y, *_ = next(iter(data.val_dataloader()))
    (split,) = paths(module.recurrent, lambda: module.loss(Batch(x[:16], y[:16])))
    for way in ("carousel", "gates"):
        curves = [getattr(split, name).rms()["c"] for name in (way, "total")]
        (row,) = [row for row in callback.values[20] if row.measure == f"paths/{way}"]
        assert row[1:4] == (0, "forward", "c")
        assert row.value == pytest.approx(float(curves[0][3] - curves[1][3]), abs=1e-5)


def test_what_has_no_carousel_says_nothing_of_it(tmp_path):
    callback = GradientPaths(None, 16)
    fit(tmp_path, carousel.RNN(2, 8, batch_first=True), [callback], steps=1)
    assert [row.measure for row in callback.values[0]] == ["paths/gates"]  # a logarithm of zero is no number


def test_the_largest_lyapunov_exponent(tmp_path):
    torch.manual_seed(0)
    callback = LargestLyapunovExponent(10, 8)
    _, module, data, events = fit(tmp_path, carousel.GRU(2, 8, batch_first=True), [callback])
    x, *_ = next(iter(data.val_dataloader()))
    (spectrum,) = lyapunov(module.recurrent, lambda: module(x[:8]), exponents=1)
    logged = events.Scalars(tag("lyapunov/largest"))
    assert [e.step for e in logged] == [0, 10, 20]
    assert logged[-1].value == pytest.approx(float(spectrum.mean()), rel=1e-4)


@pytest.mark.parametrize("kind", [carousel.LSTM, carousel.RNN])
def test_predictions_stand_beside_what_is_measured_at_the_beginning(tmp_path, kind):
    torch.manual_seed(0)
    layer = kind(2, 32, batch_first=True)
    callback = GradientFlow(tmp_path / "flow.csv", None, 16, predict=1000)
    fit(tmp_path, layer, [callback], lr=0.0)
    table = pd.read_csv(tmp_path / "flow.csv")
    x, *_ = next(iter(SequenceData(Adding(8), 16, 64, 0).val_dataloader()))
    for state, expected in theory.linearise(layer.cell(), x[:16].mean((0, 1))).curves(8).items():
        rows = table[(table["step"] == 0) & (table["state"] == state)].set_index("lag")["predicted"]
        assert rows.tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    assert table.loc[table["step"] > 0, "predicted"].isna().all()


def test_what_cannot_be_predicted_is_left_empty(tmp_path):
    layer = carousel.LSTM(2, 8, layer_norm=True, batch_first=True)
    fit(tmp_path, layer, [GradientFlow(tmp_path / "flow.csv", None, 16, predict=1000)], steps=1)
    assert pd.read_csv(tmp_path / "flow.csv")["predicted"].isna().all()


def test_stop_when_solved_stops_at_the_first_solved_validation(tmp_path, monkeypatch):
    monkeypatch.setattr(Adding, "solved", lambda self, loss: loss < 0.17)  # soon reached: the baseline is at 1/6
    callback = StopWhenSolved()
    trainer, _, _, events = fit(tmp_path, carousel.LSTM(2, 16, batch_first=True), [callback], steps=500)
    losses = {e.step: e.value for e in events.Scalars(tag("val/loss"))}
    assert callback.steps_to_solve == trainer.global_step == max(losses)
    assert [loss < 0.17 for loss in losses.values()] == [False] * (len(losses) - 1) + [True]


def test_an_unsolved_run_goes_to_its_end(tmp_path):
    callback = StopWhenSolved()
    trainer, _, _, _ = fit(tmp_path, carousel.LSTM(2, 8, batch_first=True), [callback])
    assert callback.steps_to_solve is None
    assert trainer.global_step == 20


def test_a_run_may_stop_at_a_score(tmp_path):
    callback = StopWhenSolved("val/within_0.04", 0.01)
    trainer, *_ = fit(tmp_path, carousel.LSTM(2, 16, batch_first=True), [callback], steps=500)
    assert callback.steps_to_solve == trainer.global_step < 500
    assert callback.solved(None, {"val/loss": 9.0, "val/within_0.04": 0.01})
    assert not callback.solved(None, {"val/loss": 0.0, "val/within_0.04": 0.009})
    for one in ({"monitor": "val/loss"}, {"at_least": 1.0}):
        with pytest.raises(ValueError, match="monitor and at_least must be given together"):
            StopWhenSolved(**one)


def test_each_loss_stands_in_a_chart_with_the_baselines(tmp_path, monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # of another test's sweep
    _, _, _, events = fit(tmp_path, carousel.RNN(2, 8, batch_first=True), [Charts()])
    (layout,) = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val
    for name in ("validation loss, and the baselines'", "training loss, and the baselines'"):
        assert name.encode() in layout
    assert events.Scalars(tag("val/baseline_best constant"))[0].value == pytest.approx(1 / 6)


@pytest.mark.parametrize("arguments", [(0, 5), (5, 0), (2.5, 1)])
def test_bad_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        GateStatistics(*arguments)


class Shown(Adding):
    """With a figure and a text that say what was predicted."""

    def examples(self, predict):
        batch = self.sample(1, torch.Generator().manual_seed(0))
        answer = predict(batch)
        assert answer.shape == (1, 1)
        assert not answer.requires_grad
        figure = Figure()
        figure.subplots().plot(batch.input[0, :, 0])
        return {"a sum": figure, "an answer": f"  {float(answer):.6f}\n* no list\n"}


class Fails(Adding):
    def examples(self, predict):
        raise RuntimeError("cannot be drawn")


def shown_by(tmp_path, task):
    torch.manual_seed(0)
    module = SequenceModule(SequenceModel(nn.LSTM(2, 4, batch_first=True), task), task)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=TensorBoard(tmp_path, name="", version=""),
        callbacks=[Examples(tmp_path / "examples")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.test(module, SequenceData(task, 4, 8, 0), verbose=False)
    return module, EventAccumulator(str(tmp_path)).Reload()


def test_examples_are_files_and_cards_of_tensorboard(tmp_path):
    module, events = shown_by(tmp_path, Shown(8))
    answer = module(Shown(8).sample(1, torch.Generator().manual_seed(0)).input).item()
    text = f"  {answer:.6f}\n* no list\n"
    assert (tmp_path / "examples" / "an_answer.txt").read_text() == text
    assert (tmp_path / "examples" / "a_sum.png").read_bytes().startswith(b"\x89PNG")
    assert events.Tags()["images"] == [tag("examples/a sum")]
    (shown,) = events.Tensors(tag("examples/an answer/text_summary"))
    assert shown.tensor_proto.string_val[0].decode() == f"      {answer:.6f}\n    * no list\n"  # code, in markdown


def test_no_line_of_a_text_is_cut_off(tmp_path):
    writer = SummaryWriter(tmp_path)
    Examples(tmp_path)._show(writer, 1, "long", f"{'a' * 150}{'b' * 60}\n\nc")
    writer.close()
    (shown,) = EventAccumulator(str(tmp_path)).Reload().Tensors(tag("examples/long/text_summary"))
    lines = shown.tensor_proto.string_val[0].decode().split("\n")
    assert lines == ["    " + line for line in ("a" * 100, "a" * 50 + "b" * 50, "b" * 10, "", "c")]


def test_examples_that_fail_are_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="no examples: RuntimeError: cannot be drawn"):
        shown_by(tmp_path, Fails(8))
    assert not (tmp_path / "examples").exists()


def test_a_task_without_examples_leaves_no_folder(tmp_path):
    shown_by(tmp_path, Adding(8))
    assert not (tmp_path / "examples").exists()
