import errno
import json
import shutil

import pandas as pd
import pytest
from made_up import BARE, make_run

import carousel.lab
from carousel.lab import figures
from carousel.lab.records import (
    FLOW_COLUMNS,
    PROBE_COLUMNS,
    best,
    collect,
    list_runs,
    memory_lengths,
    not_begun,
    read_record,
    steps_to_solve,
    write,
    write_record,
)
from carousel.lab.report import write_report
from carousel.lab.style import looks


def test_collect_gathers_every_run_failures_included(tmp_path):
    make_run(tmp_path, "rnn", 10)
    make_run(tmp_path, "lstm", 10, val_loss=0.001)
    make_run(tmp_path, "lstm", 20, status="failed")
    results, flow, curves, rows = collect(tmp_path)
    assert results["label"].tolist() == ["lstm", "lstm", "rnn"]
    assert results["status"].tolist() == ["finished", "failed", "finished"]
    assert results["solved"].tolist() == [True, False, False]
    assert results.loc[0, "test/loss"] == 0.001
    assert results.loc[0, "config.batch_size"] == 32
    assert results.loc[0, "versions.torch"] == "2"
    assert len(flow) == 2 * 2 * 2 * 10  # the failed run's curves stay out
    assert curves["val/loss"].dropna().tolist() == [0.2, 0.001, 0.2, 0.15]
    assert list(flow) == ["run", *FLOW_COLUMNS, "label", "model", "task", "seq_len", "seed"]
    assert list(rows) == ["run", *PROBE_COLUMNS, "label", "model", "task", "seq_len", "seed"]
    assert rows["value"].tolist() == [6, 9, 6, 9]


def test_a_table_that_cannot_be_read_is_named_and_the_others_are(tmp_path):
    for seed, (name, text) in enumerate((("flow.csv", ""), ("metrics.csv", "a,b\n1,2,3\n1\n"), ("probes.csv", "\0"))):
        (make_run(tmp_path, "rnn", 10, seed) / name).write_text(text)
    tables = collect(tmp_path)
    assert [error.split(" cannot")[0] for error in tables.results["error"]] == ["flow.csv", "metrics.csv", "probes.csv"]
    assert sorted(tables.gradient_flow["seed"].unique()) == [1, 2]
    assert sorted(tables.measurements["seed"].unique()) == [0, 1]


@pytest.mark.parametrize("name", ["flow.csv", "metrics.csv", "probes.csv"])
def test_a_table_that_is_cut_anywhere_or_garbled_is_left_out_whole(tmp_path, name):
    path = make_run(tmp_path, "rnn", 10) / name
    whole = path.read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1  # of the last row
    cuts = [whole[:k] for k in (len(whole) // 2, *range(begin + 1, len(whole)))]
    for broken in (*cuts, whole[:-5] + b"\0" * 4 + b"\n", whole[:-5] + b"?\n", whole + b"\xff\n"):
        path.write_bytes(broken)
        tables = collect(tmp_path)
        assert tables.results["error"][0].startswith(f"{name} cannot be read: ")
        assert [len(table) > 0 for table in tables[1:]].count(False) == 1
    path.write_bytes(whole)
    assert collect(tmp_path).results["error"].isna().all()


def test_memory_lengths_are_the_last_layers_of_c_or_else_of_h(tmp_path):
    rows = [
        (step, "memory_length", layer, direction, state, 100 * step + 10 * layer + k)
        for step in (0, 4)
        for layer in (0, 1)
        for direction in ("forward", "reverse")
        for k, state in enumerate(("h", "c"))
    ]
    rows = pd.DataFrame(rows, columns=PROBE_COLUMNS)
    rows.to_csv(make_run(tmp_path, "lstm", 10) / "probes.csv", index=False)
    rows[rows["state"] == "h"].to_csv(make_run(tmp_path, "rnn", 10) / "probes.csv", index=False)
    (make_run(tmp_path, "gru", 10) / "probes.csv").unlink()
    tables = collect(tmp_path)
    assert tables.results["model"].tolist() == ["gru", "lstm", "rnn"]
    assert memory_lengths(tables, "init").tolist()[1:] == [11, 10]
    assert memory_lengths(tables, "end").tolist()[1:] == [411, 410]
    assert memory_lengths(tables, "end").isna().tolist() == [True, False, False]


def labelled(*runs, folder):
    """The labels of runs (model, task, seq_len, seed, configuration), in the order given."""
    for k, (model, task, seq_len, seed, config) in enumerate(runs):
        make_run(folder / f"{k:02}", model, seq_len, seed, task=task, config=config)
    return collect(folder)[0].sort_values("run")["label"].tolist()


def test_a_label_is_the_model_and_whatever_else_was_varied(tmp_path):
    runs = [("rnn", "adding", 10, seed, {"optimizer.lr": lr}) for lr in (0.1, 1e-3) for seed in (0, 1)]
    runs.append(("lstm", "adding", 10, 0, {"optimizer.lr": 0.1, "batch_size": 32}))
    assert labelled(*runs, folder=tmp_path) == ["rnn lr=0.1"] * 2 + ["rnn lr=0.001"] * 2 + ["lstm lr=0.1"]


def test_a_label_leaves_out_a_model_that_all_runs_share(tmp_path):
    runs = [
        ("gru", "latch", 10, 0, {"optimizer.lr": lr, "model.hidden_size": h}) for h in (4, [8, 4]) for lr in (0.1, 1.0)
    ]
    assert labelled(*runs, folder=tmp_path) == ["h=4 lr=0.1", "h=4 lr=1", "h=[8,4] lr=0.1", "h=[8,4] lr=1"]


def test_a_label_leaves_out_what_follows_from_task_model_length_and_seed(tmp_path):
    runs = [
        (
            model,
            task,
            t,
            seed,
            {"data_seed": seed, "model.init.t_max": t, "trainer.max_steps": len(task), "optimizer.lr": lr},
        )
        for model, lr in (("rnn", 0.1), ("lstm", 0.2))
        for task in ("adding", "latch")
        for t in (10, 20)
        for seed in (0, 1)
    ]
    assert labelled(*runs, folder=tmp_path) == [run[0] for run in runs]


def test_a_label_says_once_what_two_keys_say(tmp_path):
    runs = [("rnn", "adding", 10, 0, {"trainer.max_steps": n, "trainer.limit_train_batches": n}) for n in (1, 2)]
    assert labelled(*runs, folder=tmp_path) == ["max_steps=1", "max_steps=2"]


def test_a_label_spells_out_keys_of_one_name(tmp_path):
    runs = [("rnn", "adding", 10, 0, {"a.size": i, "b.size": j}) for i in (1, 2) for j in (1, 2)]
    assert labelled(*runs, folder=tmp_path)[1] == "a.size=1 b.size=2"


def test_a_label_names_what_varies_in_one_model_alone_for_that_model_alone(tmp_path):
    runs = [("rnn_orthogonal", "adding", 10, 0, {"model.init.gain": gain}) for gain in (0.6, 0.8)]
    runs += [("lstm_forget1", "adding", 10, 0, {"model.init.value": value}) for value in (0, 1)]
    expected = ["rnn_orthogonal gain=0.6", "rnn_orthogonal gain=0.8", "lstm_forget1 value=0", "lstm_forget1 value=1"]
    assert labelled(*runs, folder=tmp_path) == expected


def tuned(folder, model, lr, losses, steps=100, **options):
    for seed, loss in enumerate(losses):
        config = {"optimizer.lr": lr, "trainer.max_steps": 500}
        make_run(folder, model, 10, seed, val_loss=loss, config=config, steps_to_solve=steps, **options)


def test_best_takes_what_solves_most_then_soonest_then_with_the_least_loss(tmp_path):
    tuned(tmp_path, "rnn", 1e-2, [0.001, 0.15, 0.15], steps=50)  # the best run of all, but one of three
    tuned(tmp_path, "rnn", 1e-3, [0.015, 0.016, 0.15], steps=400)
    tuned(tmp_path, "lstm", 1e-2, [0.001, 0.001, 0.001], steps=300)
    tuned(tmp_path, "lstm", 1e-3, [0.01, 0.01, 0.01], steps=200)
    tuned(tmp_path, "gru", 1e-2, [0.15, 0.16, 0.17])
    tuned(tmp_path, "gru", 1e-3, [0.01, 0.16, 0.17], status="diverged")
    tuned(tmp_path, "gru", 1e-4, [0.14, 0.159, 0.3])
    results = collect(tmp_path).results
    diverged = results["status"] == "diverged"
    results.loc[diverged, ["solved", "steps_to_solve", "val/loss"]] = False, None, float("nan")
    kept = best(results, "optimizer.lr")
    assert kept.groupby("model")["config.optimizer.lr"].unique().map(list).to_dict() == {
        "gru": [1e-4],
        "lstm": [1e-3],
        "rnn": [1e-3],
    }
    assert len(kept) == 9
    assert kept["label"].tolist() == kept["model"].tolist()
    assert {model: steps_to_solve(runs) for model, runs in kept.groupby("model")} == {
        "gru": "> 500",
        "lstm": "200",
        "rnn": "400",
    }


def test_best_chooses_for_each_setting_or_for_those_that_are_named(tmp_path):
    for lr, losses in ((1e-2, {10: 0.001, 40: 0.16}), (1e-3, {10: 0.16, 40: 0.002})):
        for length, loss in losses.items():
            for h in (4, 8):
                steps = 60 if lr == 1e-3 else 80
                config = {"optimizer.lr": lr, "model.hidden_size": h}
                make_run(tmp_path, "gru", length, val_loss=loss, config=config, steps_to_solve=steps)
    results = collect(tmp_path).results
    kept = best(results, "optimizer.lr")
    assert set(zip(kept["seq_len"], kept["config.optimizer.lr"], strict=True)) == {(10, 1e-2), (40, 1e-3)}
    assert sorted(kept["label"]) == ["h=4", "h=4", "h=8", "h=8"]
    assert set(best(results, "optimizer.lr", ["task", "model"])["config.optimizer.lr"]) == {1e-3}


def test_best_keeps_models_that_lack_an_option_in_which_others_vary(tmp_path):
    for lr, loss in ((1e-2, 0.001), (1e-3, 0.16)):
        make_run(tmp_path, "rnn", 10, val_loss=loss, config={"optimizer.lr": lr})
        for bias in (None, 1.0, 2.0):
            config = {"optimizer.lr": lr} | ({} if bias is None else {"model.init.value": bias})
            make_run(tmp_path, "lstm", 10, val_loss=0.161 - loss if bias == 2 else loss, config=config)
    kept = best(collect(tmp_path).results, "optimizer.lr")
    assert kept["config.optimizer.lr"].tolist() == [1e-2, 1e-2, 1e-3, 1e-2]
    assert kept["label"].tolist() == ["lstm", "lstm value=1", "lstm value=2", "rnn"]


def test_best_needs_a_key_that_is_there(tmp_path):
    make_run(tmp_path, "rnn", 10)
    with pytest.raises(ValueError, match="lrr is in no run's configuration"):
        best(collect(tmp_path)[0], "optimizer.lrr")


def test_tables_of_an_earlier_report_stand_in_for_runs(tmp_path):
    make_run(tmp_path / "runs", "rnn", 10)
    results, flow, curves, rows = collect(tmp_path / "runs")
    results.to_csv(tmp_path / "results.csv", index=False)
    flow.to_csv(tmp_path / "gradient_flow.csv.gz", index=False)
    curves.to_csv(tmp_path / "loss_curves.csv", index=False)
    rows.to_csv(tmp_path / "measurements.csv", index=False)
    shutil.rmtree(tmp_path / "runs")
    again = collect(tmp_path)
    assert again[0]["label"].tolist() == results["label"].tolist()
    assert len(again[1]) == len(flow)
    assert len(again[3]) == len(rows)
    assert again[2]["val/loss"].dropna().tolist() == curves["val/loss"].dropna().tolist()


def test_nothing_to_collect_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run"):
        collect(tmp_path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write(path, lambda part: part.write_text("whole"))

    def broken(part):
        part.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as error:
        write(path, broken)
    assert error.value.filename == str(path)
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = BARE | {"metrics": {"val/loss": 0.5, "x": None}}
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert json.loads((tmp_path / "result.json").read_text()) == record


def test_what_older_runs_and_tables_call_otherwise_is_read(tmp_path):
    folder = make_run(tmp_path / "runs", "rnn", 10)
    make_run(tmp_path / "runs", "gru", 10)
    record = read_record(folder)
    write_record(folder, {"chance" if key == "baseline_loss" else key: x for key, x in record.items()})
    results = collect(tmp_path / "runs").results
    assert results["baseline_loss"].tolist() == [1 / 6, 1 / 6]
    (tables := tmp_path / "tables").mkdir()
    results.rename(columns={"baseline_loss": "chance"}).to_csv(tables / "results.csv", index=False)
    assert collect(tables).results["baseline_loss"].tolist() == [1 / 6, 1 / 6]


def test_a_sweep_knows_which_of_its_runs_were_not_begun(tmp_path):
    assert not_begun(tmp_path) == []
    list_runs(tmp_path, ["a", "b"])
    list_runs(tmp_path, ["b", "c"])  # taken up again with others
    write_record(tmp_path / "b", BARE | {"status": "running"})
    assert not_begun(tmp_path) == ["a", "c"]


def test_a_notebook_gets_the_tables_as_data_frames(tmp_path):
    make_run(tmp_path, "rnn", 10)
    make_run(tmp_path, "gru", 10)
    tables = carousel.lab.results(tmp_path)
    assert tables._fields == ("results", "gradient_flow", "loss_curves", "measurements")
    assert all(isinstance(table, pd.DataFrame) and len(table) for table in tables)
    style = looks(tables.results)
    assert figures.loss_curves(tables.loss_curves, tables.results, style).axes
    assert figures.gradient_flow(tables.gradient_flow, style).axes
    assert figures.solved(tables.results, style).axes


def test_a_cell_of_ones_own_goes_by_the_name_of_its_class(tmp_path):
    for cell in ("my_cells.Fast", "my_cells.Slow"):
        make_run(tmp_path / "runs", "custom", 10, config={"model.cell.path": cell})
    make_run(tmp_path / "runs", "lstm", 10)
    tables = collect(tmp_path / "runs")
    assert list(tables.results["model"]) == list(tables.results["label"]) == ["Fast", "Slow", "lstm"]
    assert set(tables.loss_curves["label"]) == {"Fast", "Slow", "lstm"}
    write_report(tables, tmp_path / "runs", tmp_path / "tables")
    again = collect(tmp_path / "tables")
    assert list(again.results["label"]) == ["Fast", "Slow", "lstm"]
    assert set(again.loss_curves["label"]) == {"Fast", "Slow", "lstm"}
    old = (tmp_path / "tables" / "results.csv").read_text().replace("Fast", "custom")  # as it was called before
    (tmp_path / "tables" / "results.csv").write_text(old.replace("my_cells.custom", "my_cells.Fast"))
    assert list(collect(tmp_path / "tables").results["label"]) == ["Fast", "Slow", "lstm"]
