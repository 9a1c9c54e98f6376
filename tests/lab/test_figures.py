"""What is drawn is what is in the table."""

import pandas as pd
import pytest
import torch
from records import make_run

from carousel.lab import figures
from carousel.lab.results import collect


@pytest.fixture
def tables(tmp_path):
    make_run(tmp_path, "rnn", 10, rate=0.3)
    make_run(tmp_path, "rnn", 40, rate=0.3)
    make_run(tmp_path, "lstm", 10, rate=0.1, val_loss=0.001)
    make_run(tmp_path, "lstm", 40, rate=0.1, seed=0)
    make_run(tmp_path, "lstm", 40, rate=0.1, seed=1, val_loss=0.01)
    return collect(tmp_path)


def test_gradient_flow_draws_the_longest_sequences_relative_to_lag_0(tables):
    figure = figures.gradient_flow(tables[1], figures.styles(["rnn", "lstm"]))
    assert len(figure.axes) == 4
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["rnn"].get_xdata()[-1] == 39
    assert lines["rnn"].get_ydata()[10] == pytest.approx(-3.0)
    assert lines["lstm"].get_ydata()[10] == pytest.approx(-1.0)


def test_solved_tells_the_share_of_seeds(tables):
    figure = figures.solved(tables[0], figures.styles(["rnn", "lstm"]))
    words = {text.get_text().split("\n")[0] for text in figure.axes[0].texts}
    assert words == {"solved", "no", "50%"}
    (line,) = figure.axes[1].get_lines()
    assert line.get_xydata().tolist() == [[10, 100]]  # not 40, which one seed of two solves


def test_a_mean_is_over_every_seed_even_far_below_the_axis(tmp_path):
    make_run(tmp_path, "rnn", 200, seed=0, rate=0.15)
    make_run(tmp_path, "rnn", 200, seed=1, rate=0.05)
    _, flow, _ = collect(tmp_path)
    line = figures.gradient_flow(flow, figures.styles(["rnn"])).axes[0].get_lines()[0]
    assert line.get_ydata()[150] == pytest.approx(-15.0)
    assert line.get_ydata()[199] == pytest.approx(-19.9)


def test_a_solved_seed_that_stopped_stays_in_the_mean(tmp_path):
    make_run(tmp_path, "rnn", 20, seed=0, val_loss=0.15)
    folder = make_run(tmp_path, "rnn", 20, seed=1, val_loss=0.01)
    curve = pd.read_csv(folder / "metrics.csv")
    curve[curve["step"] < 100].assign(**{"val/loss": 0.01}).to_csv(folder / "metrics.csv", index=False)
    results, _, curves = collect(tmp_path)
    line = figures.loss_curves(curves, results, figures.styles(["rnn"])).axes[0].get_lines()[0]
    assert line.get_ydata()[-1] == pytest.approx((0.15 + 0.01) / 2)


def test_loss_curves_have_a_panel_for_each_length_and_the_chance_line(tables):
    figure = figures.loss_curves(tables[2], tables[0], figures.styles(["rnn", "lstm"]))
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert titles == ["seq_len 10", "seq_len 40"]
    chance = figure.axes[0].get_lines()[-1]
    assert chance.get_ydata()[0] == pytest.approx(1 / 6)
    mean = next(line for line in figure.axes[1].get_lines() if line.get_label() == "lstm")
    assert mean.get_ydata()[-1] == pytest.approx((0.15 + 0.01) / 2)


def test_the_heatmap_is_relative_to_lag_0():
    curves = torch.tensor([[1.0, -1.0, -30.0], [0.0, 3.0, -5.0]])
    figure = figures.heatmap("h", [0, 100], curves)
    image = figure.axes[0].images[0].get_array()
    assert image.tolist() == [[0, -2, -10], [0, 3, -5]]


def test_a_model_looks_the_same_whatever_else_is_drawn():
    alone, together = figures.styles(["lstm"]), figures.styles(["another", "lstm", "rnn"])
    assert alone["lstm"] == together["lstm"]
    looks = [tuple(style.values()) for style in figures.STYLES.values()]
    assert len({look[0] for look in looks}) == len({look[1:] for look in looks}) == len(looks)
