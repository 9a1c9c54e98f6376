"""What the bench computes of its times; the times themselves are no test's business."""

import io
import re

import pandas as pd
import pytest
import torch
from omegaconf import read_write
from rich.console import Console

import carousel
from carousel.engine.eager import Kinds
from carousel.engine.fused.plans import plan
from carousel.engine.registry import REGISTRY
from carousel.lab import bench, bench_cells, bench_gpu, bench_guide, bench_parts, bench_short


def test_measures_are_counted_in_training_steps(monkeypatch):
    monkeypatch.setattr(bench, "MEASURED", (4, 11, 2, 3))
    table = bench.measure_measures(1).set_index("measure")
    assert set(table.index) == set(bench.MEASURES)
    assert table.ms.gt(0).all()
    assert table.training_steps["flow"] == pytest.approx(table.ms["flow"] / table.ms["a training step"])


def test_the_figure_shows_times_over_the_rnns():
    names = ["RNN", "GRU", "LSTM", "nn.RNN", "nn.GRU", "nn.LSTM"]
    rows = [
        {"B": b, "T": 5, "I": 2, "H": 8, "threads": threads, "layer": name, "work": work, "ms": threads * b * (k + 1)}
        for b in (1, 2)
        for threads in (1, 2)
        for work in ("forward", "training_step")
        for k, name in enumerate(names)
    ]
    (ax,) = bench.figure(pd.DataFrame(rows)).axes
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}
    assert heights == {name: [k + 1, k + 1] for k, name in enumerate(names)}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1, 5, 2, 8", "2, 5, 2, 8"]


@pytest.mark.short
def test_short_sequences_are_beside_torchs_and_a_cell_of_ones_own_beside_its_loop(monkeypatch):
    for name, values in (("STEPS", (1, 2)), ("BATCHES", (2,)), ("WIDTHS", (3,)), ("LEAST", 0.0)):
        monkeypatch.setattr(bench_short, name, values)
    table = bench_short.measure(bench.OwnCell, [1], 2, Console(quiet=True))
    assert len(table) == (3 * 2 + 3 + 1) * 2
    engines = table.groupby("module").engine.unique().map(list).to_dict()
    assert engines.pop("a cell of one's own") == ["eager"]
    assert all(found == ["torch"] for found in engines.values())
    assert table.us.gt(0).all()
    assert table.speed.gt(0).all()
    assert bench_short.show(table).row_count == 14


def test_triton_is_beside_what_can_be_measured(monkeypatch):
    for name, values in (("STEPS", (3,)), ("BATCHES", (2,)), ("WIDTHS", (4,))):
        monkeypatch.setattr(bench_gpu, name, values)
    monkeypatch.setattr(torch, "compile", lambda cell: cell)
    monkeypatch.setitem(bench_gpu.CONTESTANTS, "triton", lambda kind, x: kind(x.size(2), x.size(2), backend="eager"))
    console = Console(record=True, quiet=False, file=io.StringIO(), width=200)
    table = bench_gpu.measure(2, "cpu", console)
    assert list(table.cell.unique()) == list(bench_gpu.CELLS)
    assert list(table.work[:2]) == ["inference", "training"]
    assert (table[["triton", "nn.LSTM", "compiled"]] > 0).all(axis=None)
    assert table.graphed.isna().all()
    assert table.how.eq("backend='eager'").all()
    assert console.export_text().count("graphed not measured") == len(bench_gpu.CELLS)
    assert bench_gpu.show(table).row_count == len(table)


def test_cells_are_beside_their_loop_and_a_rival_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(bench_cells, "SHAPE", (2, 3, 4))
    every = bench_cells.of_cells()
    assert set(every) == {name for name in carousel.cells.__all__ if name not in ("ABLATIONS", "Cell", "ModuleCell")}

    def missing(units):
        raise ImportError("no such package")

    pairs = {"UGRNNCell": every["UGRNNCell"], "a rival": (every["UGRNNCell"][0], missing)}
    console = Console(record=True, quiet=False, file=io.StringIO(), width=120)
    table = bench_cells.measure(pairs, 1, 2, console)
    assert console.export_text().strip() == "a rival: not measured, no such package"
    assert list(table.pair) == ["UGRNNCell"] * 2
    assert list(table.work) == ["inference", "training"]
    assert (table[["ms", "rival_ms", "speed", "of_bare_product", "of_nn_lstm"]] > 0).all(axis=None)
    assert bench_cells.show(table, "").row_count == 2


@pytest.mark.parametrize(
    ("name", "count"),
    [("LSTMCell", 8 * 128**2), ("ChoGRUCell", 6 * 128**2), ("SLSTMCell", 5 * 128**2), ("MinGRUCell", 2 * 128**2)],
)
def test_multiply_adds_are_counted_by_the_matrices(name, count):
    assert bench_cells.multiply_adds(bench_cells.of_cells()[name][0](128)) == count


def test_the_cells_of_the_guide_are_beside_its_lstm(monkeypatch):
    load = bench_guide._load

    def smaller(*overrides):
        cfg = load(*overrides, "batch_size=2")
        with read_write(cfg.hydra):
            cfg.hydra.sweeper.params.model, cfg.hydra.sweeper.grids = "rnn, lstm", cfg.hydra.sweeper.grids[1:2]
        return cfg

    monkeypatch.setattr(bench_guide, "_load", smaller)
    table = bench_guide.measure(2, Console(quiet=True))
    assert list(table.columns) == bench_guide.COLUMNS
    assert list(table.model) == ["rnn", "lstm"]
    assert list(table.of_lstm)[1] == 1
    assert table.parameters.between(19_000, 20_000).all()
    assert (table[["ms", "of_lstm"]] > 0).all(axis=None)
    assert bench_guide.show(table).row_count == 2


def test_the_parts_of_a_call(monkeypatch):
    few = bench_parts.BOUNDED[0][1:]
    monkeypatch.setattr(bench_parts, "BOUNDED", (((2, 30, 2, 4), *few),))
    monkeypatch.setattr(bench_parts, "PACKED", (4,))
    monkeypatch.setattr(bench_parts, "BUSY", (2, 30, 2, 4))
    table = bench_parts.measure(1, Console(quiet=True))
    parts = {"without activations": 2, "packing": 1, "import carousel": 1, "a free machine": 2, "a busy machine": 2}
    assert table.part.value_counts().to_dict() == parts
    assert table.ratio.drop(2).min() > 0  # what is left of a call may be lost in the noise
    assert bench_parts.show(table).row_count == 8


@pytest.mark.parametrize(("bare", "whole"), [of[3:] for of in bench_parts.BOUNDED[2:] if of[1] == bench_parts.AWAY])
def test_what_has_no_activations_has_the_same_products_forwards_and_backwards(bare, whole):
    counts = []
    for kind, options in (bare, whole):
        key, reason = plan(kind(4, 8, **options), "cpu", torch.float64, Kinds())
        assert key, reason
        sources = REGISTRY.kernels[key].kernel.sources
        found = {
            which: dict(re.findall(r"constexpr long (GX|GU|D|WORK) = (\d+);", text)) for which, text in sources.items()
        }
        counts.append(found)
    assert counts[0] == counts[1]
