"""What is drawn and said of the named experiments is what stands in the tables."""

import math
import re
import sys

import pandas as pd
import pytest
from made_up import make_run

from carousel.gradients import memory_length, theory
from carousel.lab import app
from carousel.lab.experiments import EXPERIMENTS
from carousel.lab.records import FLOW_COLUMNS, collect
from carousel.lab.report import write_report


def report(folder):
    assert write_report(collect(folder), folder) == []
    (figure,) = [path.stem for path in folder.glob("*.png")]
    return figure, (folder / "report.md").read_text()


def test_every_experiment_that_has_a_figure_has_a_config():
    configs = {path.stem for path in (app.conf_dir() / "experiment").glob("*.yaml")}
    assert EXPERIMENTS.keys() <= configs  # the others have the general figures


def test_init_decay_holds_predictions_beside_what_is_measured(tmp_path):
    for model, rate, predicted in (("rnn", 0.3, 0.3), ("lstm", 0.4, 0.35)):
        for seed in (0, 1):
            folder = make_run(tmp_path, model, 30, seed, rate, experiment="init_decay")
            flow = pd.read_csv(folder / "flow.csv")
            flow["predicted"] = -predicted * flow["lag"].where(flow["step"] == 0)
            flow.to_csv(folder / "flow.csv", index=False)
    figure, text = report(tmp_path)
    assert figure == "init_decay"
    assert "| `rnn` | 1.00e-03 / 1.00e-03 | 1.00e-06 / 1.00e-06 | 6 / 6 |" in text
    assert "| `lstm` | 1.00e-04 / 3.16e-04 | 1.00e-08 / 1.00e-07 | 5 / 5 |" in text
    assert "lies furthest from 1 as follows: 0.32 (`lstm`) at lag 10 and 0.10 (`lstm`) at lag 20." in text
    assert "`lstm` keeps less of ∂L/∂c than `rnn` of ∂L/∂h over lags 1 to 29" in text
    drawn = EXPERIMENTS["init_decay"].figure(collect(tmp_path)).axes[1]
    lines = {(line.get_label(), line.get_linestyle()): line.get_ydata() for line in drawn.get_lines()}
    assert lines["RNN", "None"].max() == pytest.approx(-0.3)  # every twelfth lag has a marker, from 1 on
    assert [y[20] for (_, style), y in lines.items() if style != "None"] == pytest.approx([-7, -6])


def test_horizon_says_which_comes_first(tmp_path):
    for model, horizon_at, solved_at in (("gru", 100, 300), ("mgu", 200, 300), ("rnn", 100, None), ("lstm", 0, 200)):
        folder = make_run(tmp_path, model, 11, experiment="horizon")
        steps = range(0, 400, 100)
        rows = [(s, 0, "forward", "h", k, -k * (0.1 if s >= horizon_at else 1.0)) for s in steps for k in range(11)]
        pd.DataFrame(rows, columns=FLOW_COLUMNS).to_csv(folder / "flow.csv", index=False)
        losses = [0.01 if solved_at and s >= solved_at else 0.17 for s in steps]
        curve = {"step": list(steps), "train/loss": losses, "val/loss": losses}
        pd.DataFrame(curve).to_csv(folder / "metrics.csv", index=False)
    figure, text = report(tmp_path)
    assert figure == "horizon"
    assert "| `gru` (seeds 0) | 100 | 300 |" in text
    assert "The horizon of `gru` gets over half the sequence 200 steps before the loss leaves its plateau" in text
    assert "The horizon of `mgu` gets over half the sequence just when the loss leaves its plateau" in text
    assert "The horizon of `lstm` reaches over half the sequence from the start." in text
    assert "`rnn` never leaves the plateau; its horizon is over half the sequence in 75% of the measurements" in text


def test_which_path_learns_counts_by_what_was_barred(tmp_path):
    ways = {
        "both paths": (0, 0),
        "cell-state path only": (1, 0),
        "gate path only": (0, 1),
        "neither": (1, 1),
        "h-detach": (0.25, 0),
    }
    for name, (gates, carousel) in ways.items():
        for seed in (0, 1):
            config = {"model.detach.gates": gates, "model.detach.carousel": carousel}
            measures = {"paths/carousel": (-1.0, -1.0), "paths/gates": (-1.0, -3.0)}
            loss = 0.001 if name == "cell-state path only" or (name == "both paths" and seed == 0) else 0.16
            make_run(
                tmp_path,
                "lstm",
                20,
                seed,
                val_loss=loss,
                experiment="which_path_learns",
                config=config,
                measures=measures,
            )
    figure, text = report(tmp_path)
    assert figure == "which_path_learns"
    assert "| `lstm`, cell-state path only | 2/2; 100 |" in text
    for name, count in {"both paths": 1, "gate path only": 0, "neither": 0, "h-detach": 0}.items():
        assert f"| `lstm`, {name} | {count}/2; > 100 |" in text
    assert (
        "the cell-state path 1.0e-01 of the whole gradient's norm at initialisation and 1.0e-01 after training" in text
    )
    assert "the gate path 1.0e-01 of the whole gradient's norm at initialisation and 1.0e-03 after training" in text


def test_phase_draws_the_lines_of_theory(tmp_path):
    module = EXPERIMENTS["phase"]
    for length in (10, 40):
        for gain in (0.6, 0.9, 1.8):
            loss = 0.001 if length == 10 and gain == 0.9 else 0.16
            config = {"model.init.gain": gain}
            make_run(tmp_path, "rnn_orthogonal", length, val_loss=loss, experiment="phase", config=config)
        make_run(tmp_path, "lstm_chrono", length, experiment="phase", config={"model.init.t_max": 30})
        for bias in (0.0, 3.0):
            config = {"model.init.value": bias}
            make_run(tmp_path, "lstm_forget1", length, val_loss=0.001, experiment="phase", config=config)
    figure, text = report(tmp_path)
    assert figure == "phase"
    growth = theory.rnn_growth(0.6, module.drive(8))
    assert module.predicted("rnn_orthogonal", 0.6, 8) == pytest.approx(math.log(0.01) / math.log(growth))
    assert 0 < module.predicted("lstm_forget1", 0.0, 8) - memory_length(theory.lstm(100)) < 1
    assert module.predicted("lstm_forget1", 3.0, 8) == math.inf
    assert module.edge("lstm_forget1", 8) == theory.lstm_edge()
    edge = module.edge("rnn_orthogonal", 8)
    assert theory.rnn_growth(edge, module.drive(8)) == pytest.approx(1, abs=0.002)
    assert f"| 0.9 | {module.predicted('rnn_orthogonal', 0.9, 8):.0f} | 1/1; 100 | 0/1; > 100 |" in text
    assert "told several lengths, at T = 10: 0 of 1 seeds in > 100 steps (median) at t_max 30." in text
    assert "LSTM: where the gradient is predicted to reach over half the sequence 1 of 1 runs solve it; " in text
    assert "where it is not 1 of 1 runs solve it; past the edge, which is at 1.78, 2 of 2 runs solve it." in text
    left = module.figure(collect(tmp_path)).axes[0]
    (line,) = [line for line in left.get_lines() if "edge" in line.get_label()]
    assert line.get_ydata()[0] == pytest.approx(1 + (edge - 0.9) / 0.9)  # from row 0.9 to row 1.8


def test_flow_is_not_ability_names_who_fails_with_a_healthy_gradient(tmp_path):
    reach = {"rnn": (1, 1), "lstm": (2, 18), "gru": (15, 19), "indrnn": (19, 19)}
    for model, (begin, end) in reach.items():
        measures = {"memory_length": (begin, end)}
        loss = 0.001 if model in ("lstm", "gru") else 0.16
        make_run(tmp_path, model, 20, val_loss=loss, experiment="flow_is_not_ability", task="parity", measures=measures)
    figure, text = report(tmp_path)
    assert figure == "flow_is_not_ability"
    assert "| `lstm` | 1/1; 11% → 95% |" in text
    assert "initialisation reaches over half the sequence, 1 of 2 solve their task" in text
    assert "initialisation does not, 1 of 2 solve their task" in text
    assert "not solved: `indrnn` on parity, T = 20 (1)." in text


def test_data_says_who_needs_how_much(tmp_path):
    for model, enough in (("rnn", 300), ("lstm", 100), ("gru", None)):
        for size in (100, 300):
            loss = 0.001 if enough and size >= enough else 0.16
            make_run(tmp_path, model, 10, val_loss=loss, experiment="data", config={"train_size": size})
    figure, text = report(tmp_path)
    assert figure == "data"
    assert "At 10 steps most seeds solve it from 100 (`lstm`) and 300 (`rnn`) training sequences." in text
    assert "At 10 steps the training limits `gru` on 100, `gru` on 300 and `rnn` on 100." in text
    assert "| `rnn`, T = 10 | 0/1; 0.96 / 1.32 | 1/1; 100 steps |" in text
    assert "Parameters: 300 (`gru`), 400 (`lstm`) and 100 (`rnn`)." in text
    drawn = EXPERIMENTS["data"].figure(collect(tmp_path))
    assert [t.get_text() for ax in drawn.axes for t in ax.texts if t.get_text()] == ["baseline", "solved"] * 2


def test_learning_curves_say_from_how_many_sequences_a_cell_gets_there(tmp_path):
    accuracies = {
        ("rnn", 75): (0.5, 0.6),
        ("rnn", 150): (0.7, 0.94),
        ("gru", 75): (0.8, 0.9),
        ("gru", 150): (0.96, 0.98),
    }
    for (model, size), seeds in accuracies.items():
        for seed, accuracy in enumerate(seeds):
            make_run(
                tmp_path, model, 8, seed, experiment="learning_curves", task="digits", config={"train_size": size},
                metrics={"test/accuracy": accuracy},
            )  # fmt: skip
    figure, text = report(tmp_path)
    assert figure == "learning_curves"
    assert "| `gru` | 0.85 (0.8 to 0.9) | 0.97 (0.96 to 0.98) |" in text
    assert "On digits 0.921, 95% of the best median, is got by `gru` from 150 and `rnn` from none of these." in text
    (panel,) = EXPERIMENTS["learning_curves"].figure(collect(tmp_path)).axes
    assert [list(line.get_ydata()) for line in panel.get_lines()] == [
        pytest.approx([0.85, 0.97]),
        pytest.approx([0.55, 0.82]),
    ]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_of_several_experiments_get_the_general_figures(tmp_path, name):
    make_run(tmp_path, "rnn", 10, experiment=name)
    make_run(tmp_path, "lstm", 10, experiment="something else")
    write_report(collect(tmp_path), tmp_path)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"gradient_flow", "solved", "loss_curves"}


def test_an_experiment_of_which_nothing_is_finished_has_a_report(tmp_path):
    make_run(tmp_path, "rnn", 10, experiment="phase", status="failed")
    write_report(collect(tmp_path), tmp_path)
    assert "failed: ValueError: it broke" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_sweep_that_has_just_begun_has_a_report(tmp_path, name):
    config = {"model.detach.gates": 0, "model.detach.carousel": 0, "train_size": 100, "model.init.gain": 1.0}
    config |= {"optimizer.lr": 1e-3} if name == "guide" else {}
    model = "rnn_orthogonal" if name == "phase" else "lstm"
    make_run(tmp_path, model, 20, experiment=name, config=config)
    make_run(tmp_path, model, 40, experiment=name, config=config | {"train_size": 300}, task="latch")
    make_run(tmp_path, "rnn", 20, experiment=name, status="running", config=config)
    figure, text = report(tmp_path)
    assert figure == name
    assert "1 running" in text


def guided(folder, losses):
    """Runs of the guide, by (task, model) with a loss a seed."""
    for (task, model), values in losses.items():
        for seed, loss in enumerate(values):
            config = {"optimizer.lr": 1e-3, "task.name": task}
            make_run(folder, model, 10, seed, val_loss=loss, experiment="guide", task=task, config=config)


def test_the_guide_tells_apart_what_all_seeds_tell_apart(tmp_path):
    guided(
        tmp_path,
        {
            ("adding", "rnn"): (0.16, 0.17), ("adding", "lstm"): (0.02, 0.03), ("adding", "gru"): (0.01, 0.015),
            ("copy_memory", "rnn"): (0.10, 0.12), ("copy_memory", "lstm"): (0.11, 0.13),
            ("copy_memory", "gru"): (0.11, 0.14),
            ("parity", "rnn"): (0.02, 0.03), ("parity", "lstm"): (0.04, 0.05), ("parity", "gru"): (0.025, 0.06),
        },
    )  # fmt: skip
    tables = collect(tmp_path)
    places = EXPERIMENTS["guide"].ranks(tables)
    assert places.loc["adding"].to_dict() == {"gru": 1, "lstm": 2, "rnn": 3}
    assert places.loc["parity"].to_dict() == {"rnn": 1, "gru": 2, "lstm": 3}
    write_report(tables, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Mean rank over 3 tasks: `rnn` 1.7, `gru` 2.0 and `lstm` 2.3." in text
    assert "- LSTM or GRU: `gru` is better on adding; no difference on copy_memory and parity." in text
    assert "no cell better than it in all seeds, on copy_memory and parity." in text
    assert re.search(r"`lstm` \| 400 \| 0.001 \| 0.025 \(0.02 to 0.03\) \| worse \| 100 \|", text)
    assert re.search(r"`gru` \| 300 \| 0.001 \| 0.0425 \(0.025 to 0.06\) \| no difference \|", text)


def test_who_solves_a_task_of_the_guide_is_as_good_as_who_else_does(tmp_path):
    guided(tmp_path, {("s3", "rnn"): (1e-3, 2e-3), ("s3", "lstm"): (1e-6, 2e-6), ("s3", "gru"): (0.02, 0.03)})
    tables = collect(tmp_path)
    tables.results["config.task.things"] = 2
    assert EXPERIMENTS["guide"].ranks(tables).loc["running parity"].to_dict() == {"gru": 3, "lstm": 1.5, "rnn": 1.5}
    tables.results["baseline.best constant.test/loss"] = 0.125  # of test data, as the runs' losses are
    text = "\n".join(EXPERIMENTS["guide"].findings(tables))
    assert "running parity (without training at best 0.125)" in text
    assert re.search(r"`rnn` .* no difference \| 100 \|\n\| `gru` .* worse \| 100 \|", text)
    assert (
        "A simple RNN is enough, better than what needs no training and no cell better than it in all seeds, on running"
        in text
    )
    assert "LSTM or GRU: `lstm` is better on running parity." in text
    assert "happens in 33.3% of cases" in text


def test_the_guide_says_whether_the_gradients_reach_tells_the_outcome(tmp_path):
    losses = {("adding", model): (0.1 - 0.01 * k,) for k, model in enumerate(("rnn", "lstm", "gru", "lem", "indrnn"))}
    guided(tmp_path, losses)
    tables = collect(tmp_path)
    runs = tables.results[["run", "model"]].set_index("run")["model"]
    lengths = runs.map({"rnn": 5, "lstm": 9, "gru": 12, "lem": 40, "indrnn": 100}).rename("value").reset_index()
    rows = lengths.assign(step=0, measure="memory_length", layer=0, direction="forward", state="h")
    (said,) = [line for line in EXPERIMENTS["guide"].findings(tables._replace(measurements=rows)) if "Rank" in line]
    told = re.search(r"memory length at initialisation with the test loss: (\S+) on adding \(p = (\S+)\)", said)
    assert float(told[1]) == -1.0
    assert float(told[2]) == pytest.approx(2 / 120, abs=0.005)  # of 120 orders two are as far from zero


def test_the_guide_says_how_many_bits_a_parameter_learns_by_heart(tmp_path):
    guided(tmp_path, {("RandomBits", "rnn"): (0.1, 0.2, 0.3), ("parity", "rnn"): (0.1, 0.2, 0.3)})
    tables = collect(tmp_path)
    results = tables.results.assign(parameters=500, **{"config.task.sequences": 1000.0, "test/accuracy": 0.5})
    results.loc[results["task"] == "RandomBits", "test/accuracy"] = [1.0, 0.5, 0.75]
    text = "\n".join(EXPERIMENTS["guide"].findings(tables._replace(results=results)))
    each = 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    assert f"Bits learnt by heart, for each parameter: `rnn` {2 * each:.2f} (0.00 to 2.00)." in text
    assert "| bits by heart (without training" in text


def test_the_guide_of_a_sweep_that_is_not_done_says_what_is_there(tmp_path):
    guided(tmp_path, {("adding", "rnn"): (0.16, 0.17), ("adding", "lstm"): (0.02, 0.03), ("parity", "lstm"): (0.02,)})
    tables = collect(tmp_path)
    assert list(EXPERIMENTS["guide"].ranks(tables).index) == ["adding"]
    text = "\n".join(EXPERIMENTS["guide"].findings(tables))
    assert re.search(r"`lstm` .* \| not all seeds ended, but 1 \|", text)  # of parity, and is compared with nothing
    assert "Mean rank over 1 task: `lstm` 1.0 and `rnn` 2.0." in text
    assert (
        "A simple RNN is enough, better than what needs no training and no cell better than it in all seeds, on none."
        in text
    )


def test_the_guides_report_is_written_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scikit_posthocs", None)
    guided(tmp_path, {("adding", "rnn"): (0.16,), ("adding", "lstm"): (0.02,)})
    (failure,) = write_report(collect(tmp_path), tmp_path)
    assert failure.startswith("guide.png was not drawn: ModuleNotFoundError: a critical-difference diagram needs")
    assert 'pip install "torch-carousel[guide]"' in failure
    assert "Mean rank over 1 task" in (tmp_path / "report.md").read_text()


def test_the_guides_ranks_are_joined_where_they_do_not_differ(tmp_path):
    pytest.importorskip("scikit_posthocs", reason="the extra guide is not installed")
    order = ("gru", "lstm", "rnn")
    losses = {(f"task {k}", model): (0.01 * (i + 1),) for k in range(9) for i, model in enumerate(order)}
    guided(tmp_path, losses)
    drawn = EXPERIMENTS["guide"].figure(collect(tmp_path))
    bars = [line for line in drawn.axes[0].get_lines() if line.get_linewidth() > 1.5]
    joined = sorted(tuple(round(float(x), 6) for x in sorted(line.get_xdata())) for line in bars)
    assert joined == [(1, 2), (2, 3)]  # over nine tasks, ranks differ that are 1.1 apart (Demsar 2006, equation 5)
