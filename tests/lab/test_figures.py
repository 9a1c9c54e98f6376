"""What is drawn is what is in the table."""

import math
import warnings
from itertools import combinations, product

import matplotlib
import pandas as pd
import pytest
import torch
from made_up import make_run
from matplotlib.figure import Figure

from carousel.lab import figures
from carousel.lab.records import FLOW_COLUMNS, collect, read_record, write_record
from carousel.lab.report import solved_table
from carousel.lab.style import STYLES, by_size, looks, ordered, styles


def rendered(figure: Figure) -> Figure:
    """The figure, drawn; a legend or a label that runs over its edge, or over another legend, is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig("/dev/null", format="png")
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert figure.bbox.x0 - 1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1
        assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)
    return figure


@pytest.fixture
def tables(tmp_path):
    make_run(tmp_path, "rnn", 10, rate=0.3)
    make_run(tmp_path, "rnn", 40, rate=0.3)
    make_run(tmp_path, "lstm", 10, rate=0.1, val_loss=0.001)
    make_run(tmp_path, "lstm", 40, rate=0.1, seed=0)
    make_run(tmp_path, "lstm", 40, rate=0.1, seed=1, val_loss=0.01)
    return collect(tmp_path)


@pytest.fixture
def nine(tmp_path):
    for task, h, lr in product(("adding", "latch"), (4, 16, 64), (1e-3, 3e-3, 1e-2)):
        config = {"model.hidden_size": h, "optimizer.lr": lr}
        loss = 0.001 if h * lr > 0.04 else 0.15
        make_run(tmp_path, "gru", 20, task=task, val_loss=loss, config=config, steps_to_solve=h)
    return collect(tmp_path)


def test_gradient_flow_draws_the_longest_sequences_relative_to_lag_0(tables):
    figure = rendered(figures.gradient_flow(tables.gradient_flow, looks(tables.results)))
    assert len(figure.axes) == 4
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["RNN"].get_xdata()[-1] == 39
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_yticks())  # or 10^-2.5 would read 10^-2
    assert lines["RNN"].get_ydata()[10] == pytest.approx(-3.0)
    assert lines["LSTM"].get_ydata()[10] == pytest.approx(-1.0)


def test_solved_tells_how_many_seeds_and_after_how_many_steps(tables):
    figure = rendered(figures.solved(tables.results, looks(tables.results)))
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["1/1\n100 steps", "1/2\nloss 0.48", "0/1\nloss 0.90", "0/1\nloss 0.90"]
    (bars,) = figure.axes[1].containers
    assert bars.lines[0].get_ydata().tolist() == [100]  # not at 40, which one seed of two solves


def test_a_run_that_is_not_solved_takes_all_its_steps_in_the_figure_as_in_the_table(tmp_path):
    for seed, (loss, steps) in enumerate([(0.001, 20), (0.001, 60), (0.15, None)]):
        for length in (10, 20):
            make_run(tmp_path, "rnn", length, seed, val_loss=loss, steps_to_solve=steps)
    results = collect(tmp_path).results
    figure = rendered(figures.solved(results, looks(results)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["2/3\n60 steps"] * 2
    assert "| `rnn` | 2/3; 60 steps | 2/3; 60 steps |" in solved_table(results.assign(label="rnn"), results)
    (bars,) = figure.axes[1].containers
    assert bars.lines[0].get_ydata().tolist() == [60, 60]
    ((lower, upper), *_) = bars.lines[2][0].get_segments()
    assert (lower[1], upper[1]) == (20, 100)


def test_a_solved_run_that_nobody_counted_is_drawn(tmp_path):
    for length in (10, 20):
        make_run(tmp_path, "rnn", length, val_loss=0.001, steps_to_solve=None)
    results = collect(tmp_path).results
    figure = rendered(figures.solved(results, looks(results)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["1/1"] * 2


def test_a_mean_is_over_every_seed_even_far_below_the_axis(tmp_path):
    make_run(tmp_path, "rnn", 200, seed=0, rate=0.15)
    make_run(tmp_path, "rnn", 200, seed=1, rate=0.05)
    flow = collect(tmp_path).gradient_flow
    line = figures.gradient_flow(flow, styles(["rnn"])).axes[0].get_lines()[0]
    assert line.get_ydata()[150] == pytest.approx(-15.0)
    assert line.get_ydata()[199] == pytest.approx(-19.9)


def test_a_gradient_that_is_nowhere_is_said(tmp_path):
    folder = make_run(tmp_path, "rnn", 20)
    flow = pd.read_csv(folder / "flow.csv").assign(log10_norm=-math.inf)
    flow.to_csv(folder / "flow.csv", index=False)
    figure = rendered(figures.gradient_flow(collect(tmp_path).gradient_flow, styles(["rnn"])))
    assert "no gradient at lag 0" in [text.get_text() for text in figure.axes[0].texts]


def test_each_layer_direction_and_task_has_panels_of_its_own(tmp_path):
    for task in ("adding", "latch"):
        places = product((0, 100), (0, 1), ("forward", "reverse"), ("h",), range(10))
        rows = [(*place, -0.1 * (place[1] + 1) * place[-1]) for place in places]
        folder = make_run(tmp_path, "rnn", 10, task=task)
        pd.DataFrame(rows, columns=FLOW_COLUMNS).to_csv(folder / "flow.csv", index=False)
    figure = rendered(figures.gradient_flow(collect(tmp_path).gradient_flow, styles(["rnn"])))
    titles = [ax.get_title() for ax in figure.axes[::2]]
    assert len(titles) == len(set(titles)) == 8
    assert titles[3] == r"adding: $\partial L/\partial h^{(1)}_{T-k}$, reverse, at initialisation"
    assert figure.axes[6].get_lines()[0].get_ydata()[5] == pytest.approx(-1)


def test_a_loss_is_a_line_for_each_run_over_the_baselines(tmp_path):
    make_run(tmp_path, "rnn", 20, seed=0, val_loss=0.15)
    folder = make_run(tmp_path, "rnn", 20, seed=1, val_loss=0.01)
    curve = pd.read_csv(folder / "metrics.csv")
    curve[curve["step"] < 100].assign(**{"val/loss": 0.01}).to_csv(folder / "metrics.csv", index=False)
    tables = collect(tmp_path)
    figure = rendered(figures.loss_curves(tables.loss_curves, tables.results, styles(["rnn"])))
    whole, short, baseline, solved = figure.axes[0].get_lines()
    assert whole.get_ydata().tolist() == pytest.approx([1.2, 0.9])
    assert short.get_xdata().tolist() == [0, 50]  # to its own end
    assert [baseline.get_ydata()[0], solved.get_ydata()[0]] == [1, 0.1]


@pytest.mark.parametrize(("least", "top"), [(2.4, 5), (6, 12)])
def test_losses_are_cut_above_five_baselines_but_the_best_is_seen(tmp_path, least, top):
    make_run(tmp_path, "rnn", 20, val_loss=least / 60)
    tables = collect(tmp_path)
    curves = tables.loss_curves.assign(**{"val/loss": 10 * tables.loss_curves["val/loss"]})  # from 12 down
    (ax,) = rendered(figures.loss_curves(curves, tables.results, looks(tables.results))).axes
    assert ax.get_ylim()[1] == pytest.approx(top)


def test_every_baseline_of_a_task_without_a_goal_stands_beside_the_losses(tmp_path):
    known = {"val/baseline_unigram": 1 / 6, "val/baseline_trigram": 1 / 8, "val/baseline_last value": 4.0}
    folder = make_run(tmp_path, "rnn", 10, metrics=known)
    write_record(folder, read_record(folder) | {"solved": None})
    tables = collect(tmp_path)
    (ax,) = rendered(figures.loss_curves(tables.loss_curves, tables.results, looks(tables.results))).axes
    levels = {text.get_text(): text.xy[1] for text in ax.texts}
    assert levels == {"unigram": pytest.approx(1), "trigram": pytest.approx(0.75)}  # the third would be at 24, above
    assert [tick.get_text() for tick in ax.get_yticklabels() if tick.get_text()]


def test_nine_settings_on_two_tasks_are_told_apart(nine):
    style = looks(nine.results)
    assert len(style) == 9
    assert len({look["color"] for look in style.values()}) == 3
    assert len({(look["color"], look["linestyle"]) for look in style.values()}) == 9
    table = rendered(figures.solved(nine.results, style))
    assert [ax.get_title() for ax in table.axes] == ["adding", "latch"]
    assert table.axes[0].get_xlabel() == "optimizer.lr"
    assert [tick.get_text() for tick in table.axes[0].get_yticklabels()] == ["4", "16", "64"]
    assert table.axes[0].images[0].get_array().tolist() == [[0, 0, 0], [0, 1, 1], [1, 1, 1]]
    losses = rendered(figures.loss_curves(nine.loss_curves, nine.results, style))
    assert [ax.get_title() for ax in losses.axes] == ["adding, T = 20", "latch, T = 20"]
    order = [f"h={h} lr={lr}" for h in (4, 16, 64) for lr in (0.001, 0.003, 0.01)]
    assert list(style) == order
    assert [text.get_text() for text in losses.legends[0].get_texts()] == order
    assert "range of the runs" not in figures.gradient_flow(nine.gradient_flow, style).get_suptitle()  # one each
    rendered(figures.gradient_flow(nine.gradient_flow, style))


def test_the_heatmap_is_relative_to_lag_0():
    curves = torch.tensor([[1.0, -1.0, -30.0], [0.0, 3.0, -5.0]])
    figure = rendered(figures.heatmap(figures.derivative("h", 0, "reverse"), [0, 100], curves))
    image = figure.axes[0].images[0].get_array()
    assert image.tolist() == [[0, -2, -10], [0, 3, -5]]


def test_the_heatmap_of_many_steps_stays_small():
    figure = rendered(figures.heatmap(figures.derivative("my_state"), list(range(3000)), torch.zeros(3000, 5)))
    labels = [int(tick.get_text()) for tick in figure.axes[0].get_yticklabels()]
    assert len(labels) == 60
    assert labels[0] == 0
    assert labels[-1] == 2999


def test_a_model_looks_the_same_whatever_else_is_drawn():
    alone, together = styles(["lstm"]), styles(["another", "lstm", "rnn"])
    assert alone["lstm"] == together["lstm"]
    known = [tuple(style.values()) for style in STYLES.values()]
    assert len({look[0] for look in known}) == len({look[1:] for look in known}) == len(known)


def test_no_style_is_used_twice():
    style = styles([*STYLES, *map(str, range(300))])
    assert all(matplotlib.colors.is_color_like(look["color"]) for look in style.values())
    assert all(a != b for a, b in combinations(style.values(), 2))


def test_numbers_in_names_are_sorted_by_size():
    words = ["gru h=8 lr=1e-05", "gru h=8 lr=0.001", "gru h=16", "gru h=[8,9]", "lstm gain=-2", "lstm gain=1.5"]
    assert sorted(set(words), key=by_size) == words
    groups = ordered([(("a", "h=16"), 0), (("a", "h=4"), 1)])
    assert [name for name, _ in groups] == [("a", "h=4"), ("a", "h=16")]


def test_what_no_model_solves_has_no_axes_and_models_keep_their_order_in_the_legend(tmp_path):
    for length in (10, 100):
        make_run(tmp_path, "lstm", length)
        folder = make_run(tmp_path, "gru", length)
        flow = pd.read_csv(folder / "flow.csv")
        flow[flow["state"] == "h"].to_csv(folder / "flow.csv", index=False)
    tables = collect(tmp_path)
    style = looks(tables.results)
    steps = rendered(figures.solved(tables.results, style)).axes[1]
    assert not steps.axison
    assert [text.get_text() for text in steps.texts] == ["no length is solved by most runs"]
    flow = rendered(figures.gradient_flow(tables.gradient_flow, style))
    assert [text.get_text() for text in flow.legends[0].get_texts()] == ["GRU", "LSTM"]  # though only one has a c
