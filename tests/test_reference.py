"""The reference results: what stands in their tables is what their reports, figures and pages say."""

import re
import shutil
from pathlib import Path
from statistics import geometric_mean

import pandas as pd
import pytest

from carousel.lab import scores
from carousel.lab.bench_cells import COMPILED
from carousel.lab.bench_short import WORKS
from carousel.lab.data import SequenceData
from carousel.lab.experiments import CHOSEN, EXPERIMENTS
from carousel.lab.records import BUDGET, best, collect, relative
from carousel.lab.report import write_report
from carousel.lab.reproduce import REPRODUCED
from carousel.lab.tasks import Adding

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "outputs" / "reference"
FOLDERS = sorted(path.parent.relative_to(REFERENCE).as_posix() for path in REFERENCE.rglob("results.csv*"))
REAL = {
    "speech": ("accuracy", "nearest by time warping"),
    "language": ("bits_per_character", "trigram"),
    "forecasting": ("mae", "a day ago"),
    "images": ("accuracy", "nearest mean"),
}
"""Experiments on recorded data, with the score and the baseline that the README shows."""
AVX2 = dict.fromkeys(("vanishing_gradients", "phase", "flow_is_not_ability", "data"), 50)
AVX2 |= {"which_path_learns": 150, "horizon": None}
"""Experiments that were run as on a CPU without AVX-512 too, and how many steps runs are solved earlier or later."""
SEEDS = {"guide": {0, 1, 2, 3, 4}, "reproduce/chrono": {3, 4, 5}}
"""Of those that have others than three from 0."""
PAGE = (REFERENCE / "README.md").read_text()


def test_every_experiment_has_its_reference():
    assert set(FOLDERS) == {"vanishing_gradients", *EXPERIMENTS, *REAL, "keras_example", *REPRODUCED}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_report_follows_from_the_tables(tmp_path, name):
    copy = shutil.copytree(REFERENCE / name, tmp_path / name)
    for path in [copy / "report.md", *copy.glob("*.png")]:
        path.unlink()
    assert write_report(collect(copy), copy) == []
    assert (copy / "report.md").read_text() == (REFERENCE / name / "report.md").read_text()
    assert {p.name for p in copy.glob("*.png")} == {p.name for p in (REFERENCE / name).glob("*.png")}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_seed_was_run_and_every_run_ended(name):
    results = collect(REFERENCE / name).results
    assert (results["status"] == "finished").mean() > 0.99  # IndRNNs can die: no unit is active, no gradient is left
    seeds = SEEDS.get(name, {0, 1, 2})
    assert set(results["seed"]) == seeds
    assert results.groupby("label")["seed"].nunique().eq(len(seeds)).all()


@pytest.mark.parametrize("name", FOLDERS)
def test_the_seed_draws_weights_and_data_alike(name):
    results = collect(REFERENCE / name).results
    assert (results["seed"] == results["data_seed"]).all()


@pytest.mark.parametrize("name", REPRODUCED)
def test_what_is_said_of_a_published_table_is_in_its_report(name):
    folder, report = REFERENCE / "reproduce", (REFERENCE / name / "report.md").read_text()
    (part,) = re.findall(rf"^## [^\n]*`{name}`\n(.*?)(?=^## |\Z)", (folder / "README.md").read_text(), re.M | re.S)
    said = numbers(part)
    assert len(said) >= 3
    assert said - numbers(report) == set()
    assert [t for t in re.findall(r"\]\(([^)#]+)\)", part) if not (folder / t).exists()] == []
    verdicts = re.findall(r"\*\*(agrees|disagrees|out of reach|agrees in \d of \d seeds)\*\*", part)
    found = [line.split(" | ")[4] for line in report.splitlines() if line.count(" | ") == 5][1:]
    assert sorted(set(verdicts)) == sorted(set(found) - {"verdict", "---:"})


def test_every_link_and_figure_of_the_page_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert {f"{name}/{name}.png" for name in EXPERIMENTS} <= set(targets)
    assert [t for t in targets if not t.startswith("http") and not (REFERENCE / t).exists()] == []


def numbers(text: str) -> set[str]:
    """All but single digits, years, commits, and what stands in links, of which a section's number may be all."""
    text = re.sub(r"\[\d+\]\([^)]*\)|\]\([^)]*\)|\b(19|20)\d\d\b|^\| git \|.*", "", text, flags=re.MULTILINE)
    found = re.findall(r"\d+/\d+|\d[\d,]*(?:\.\d+)?(?:e-\d+)?%?", text)
    return {number for number in (number.strip(",") for number in found) if len(number) > 1}


@pytest.mark.parametrize("name", [*EXPERIMENTS, *REAL, "keras_example"])
def test_what_is_said_to_have_come_out_is_in_the_report(name):
    (part,) = re.findall(rf"^## [^\n]*`{name}`\n.*?^\*Came out\*(.*?)^\*Means:\*", PAGE, re.M | re.S)
    said = numbers(part)
    assert len(said) > 3
    assert said - numbers((REFERENCE / name / "report.md").read_text()) == set()


def test_the_readme_shows_the_report():
    (part,) = re.findall(r"^## What it shows\n(.*?)^The numbers: ", (ROOT / "README.md").read_text(), re.M | re.S)
    report = (REFERENCE / "vanishing_gradients" / "report.md").read_text()
    rows = re.findall(r"^\|.*\|$", part, re.M)
    assert len(rows) > 10
    assert [row for row in rows if row not in report] == []
    words = re.sub(r"^\|.*\|$", "", part, flags=re.M)
    assert "more than ten times" in " ".join(words.split())
    assert marked_over_others("lstm_chrono") > 10
    words = words.replace("AVX-512", "")
    assert numbers(words) - numbers(report) == set()


@pytest.mark.parametrize("name", ["results", "avx2"])
def test_what_the_readme_says_of_who_solves_what_holds_on_either_cpu(name):
    runs = best(pd.read_csv(REFERENCE / "vanishing_gradients" / f"{name}.csv"), CHOSEN)
    runs = runs.fillna({"steps_to_solve": runs[BUDGET]})
    cells = runs.groupby(["model", "seq_len"])
    solved, steps = cells["solved"].mean().unstack(), cells["steps_to_solve"].median().unstack()
    assert (solved.drop("rnn")[[10, 25, 50, 100]] == 1).all(axis=None)
    assert (solved.loc["rnn", [10, 50, 100, 200]] == [1, 0, 0, 0]).all()
    assert steps.loc["lstm", 200] > 3 * steps.loc[["gru", "lstm_chrono"], 200].max()


@pytest.mark.parametrize(("name", "steps"), AVX2.items())
def test_each_run_is_solved_when_it_is_here_without_avx512(name, steps):
    here, there = (pd.read_csv(REFERENCE / name / f"{table}.csv") for table in ("results", "avx2"))
    settings = [column for column in there.columns.intersection(here.columns) if column.startswith("config.")]
    both = there.merge(here, on=["model", "task", "seq_len", "seed", *settings], suffixes=("", "_here"))
    assert len(both) == len(there) >= 12
    assert (both["solved"] == both["solved_here"]).all()
    if steps:
        assert (both["steps_to_solve"] - both["steps_to_solve_here"]).abs().max() <= steps


@pytest.mark.parametrize("name", ["init_decay", "horizon"])
def test_what_is_found_is_the_same_to_the_letter_without_avx512(name):
    folder = REFERENCE / name
    _, found = (folder / "report.md").read_text().split("</details>\n\n")
    assert re.sub(r"!\[.*\n", "", found).strip() == (folder / "avx2.md").read_text().strip()


@pytest.mark.parametrize("table", ["results", "avx2"])
def test_what_is_said_of_recorded_data_holds_on_either_cpu(table):
    def scores_of(name):
        runs = best(pd.read_csv(REFERENCE / name / f"{table}.csv"), CHOSEN)
        return runs.groupby("model")[f"test/{REAL[name][0]}"]

    speech, language, forecasting, images = map(scores_of, REAL)
    assert speech.mean().min() > 0.9514
    assert language.max()["lstm"] < language.min()[["gru", "rnn"]].min()
    assert language.max().max() < 2.372
    assert forecasting.mean()["lstm"] < forecasting.mean()["gru"] < 97.19 < forecasting.min()["rnn"]
    assert images.min().max() < 0.8519
    assert images.max()["rnn"] < images.min()["lstm"]


def marked_over_others(label: str) -> float:
    """How much larger the trained model's dL/dh is where a marked input comes next than elsewhere, at 200 steps: the
    ratio of the medians over lags, the marks being those of the sequences that the probe sees."""
    tables = collect(REFERENCE / "vanishing_gradients")
    flow = tables.of(best(tables.results, CHOSEN)).gradient_flow
    flow = relative(flow[(flow["label"] == label) & (flow["seq_len"] == 200) & (flow["state"] == "h")])
    flow = flow[flow["step"] == flow.groupby("run")["step"].transform("max")]
    marked, others = [], []
    for seed, curve in flow.groupby("seed"):
        (batch,) = SequenceData(Adding(200), 32, 500, seed).val_dataloader()
        _, steps = batch.input[:32, :, 1].nonzero(as_tuple=True)
        before = set((200 - steps).tolist())  # the lag of the state that meets the marked input
        curve = curve[curve["lag"] > 0].set_index("lag")["log10_norm"]
        marked += [y for lag, y in curve.items() if lag in before]
        others += [y for lag, y in curve.items() if lag not in before]
    return 10 ** float(pd.Series(marked).median() - pd.Series(others).median())


@pytest.mark.parametrize("name", REAL)
def test_the_readme_shows_the_scores_on_recorded_data(name):
    (score, baseline), runs = REAL[name], best(pd.read_csv(REFERENCE / name / "results.csv"), CHOSEN)
    cells = [scores.spread(runs.loc[runs["model"] == model, f"test/{score}"]) for model in ("rnn", "lstm", "gru")]
    known = scores.baselines(runs)[baseline][score]
    row = f"| `{name}` | {score} | {baseline}: {known:.4g} | {' | '.join(cells)} |"
    assert row in (ROOT / "README.md").read_text()


def speeds(name):
    """Rows of the README's tables: of each shape and the geometric mean, of a training step and a forward pass."""
    bench, cells = pd.read_csv(REFERENCE / name), ["LSTM", "GRU", "RNN", "LSTM, peephole", "MGU", "a cell of one's own"]
    for threads, rows in bench.groupby("threads"):
        table = rows.pivot_table(index=[*"BTIH"], columns=["layer", "work"], values="speed", sort=False)
        works = [[table[cell, work] for work in ("training_step", "forward")] for cell in cells]
        for shape in table.index:
            yield f"| {threads} | {', '.join(map(str, shape))} |", [[w[shape] for w in pair] for pair in works]
        yield f"| {threads} | geometric mean |", [[geometric_mean(w) for w in pair] for pair in works]


def test_the_readme_shows_what_long_sequences_cost():
    text = (ROOT / "README.md").read_text()
    for name in ("bench.csv", "bench_xeon.csv"):
        for head, pairs in speeds(name):
            row = " | ".join(" / ".join(f"{speed:.2f}" for speed in pair) for pair in pairs)
            if name == "bench.csv":
                assert f"{head} {row} |" in text
            elif "mean" in head:
                assert f"{head.partition(' geo')[0]} {row} |" in text
            trained = [pair[0] for pair in pairs]
            assert min(trained[:3]) > 1
            assert min(trained) > 0.9
    bench = pd.read_csv(REFERENCE / "bench.csv").set_index(["threads", *"BTIH", "layer", "work"])
    for (threads, *shape), rows in bench.groupby(level=["threads", *"BTIH"]):
        ours, theirs, watched = (
            rows.loc[(threads, *shape, *key)]
            for key in (("LSTM", "training_step"), ("nn.LSTM", "training_step"), ("LSTM", "watched"))
        )
        memory, more = ours.peak_mib / theirs.peak_mib, watched.ms / ours.ms - 1
        row = f"{ours.of_matmul_peak:.0%} | {memory:.2f} | {more:+.1%}"
        assert f"| {threads} | {', '.join(map(str, shape))} | {row} |" in text
        assert memory < 0.7


def test_the_readme_shows_what_short_sequences_and_other_cells_cost():
    text = (ROOT / "README.md").read_text()
    for (threads, module), rows in pd.read_csv(REFERENCE / "short.csv").groupby(["threads", "module"]):
        speeds = [rows.speed[rows.work == work] for work in ("inference", "training")]
        shown = " | ".join(f"{geometric_mean(s):.2f} ({s.min():.2f})" for s in speeds)
        assert f"| {threads} | {module} | {shown} |" in text
    rivals = pd.read_csv(REFERENCE / "rivals.csv")
    speed = rivals.set_index(["threads", "pair", "work"]).speed.map("{:.1f}".format)
    for threads, pair in dict.fromkeys(zip(rivals.threads, rivals.pair, strict=True)):
        if not pair.endswith(COMPILED):
            shown = [speed.get((threads, pair + how, work), "") for how in ("", COMPILED) for work in WORKS]
            assert f"| {threads} | {pair} | {' | '.join(shown)} |" in text
    bare = rivals.of_bare_product[(rivals.pair == "minGRU, minGRU-pytorch") & (rivals.work == "inference")]
    assert f"minGRU takes {bare.min():.1f} to {bare.max():.1f} times" in " ".join(text.split())
    cells = pd.read_csv(REFERENCE / "cells.csv")
    assert set(cells.engine) == {"fused"}
    words = " ".join(text.split())
    for work, rows in cells[cells.threads == 1].groupby("work"):
        assert f"{rows.speed.min():.1f} to {rows.speed.max():.1f} times as fast in {work}" in words
    there = cells.set_index(["threads", "pair", "work"])
    fast = [int((cells[cells.threads == 2].groupby("work").speed.get_group(work) >= 5).sum()) for work in WORKS]
    assert f"{fast[0]} and {fast[1]} of the {cells.pair.nunique()} on two" in words
    for pair, name in {
        "SLSTMCell": "an sLSTM",
        "LSTMVariantCell": "an LSTM with layer norm",
        "LEMCell": "LEM",
        "ChoGRUCell": "Cho's GRU",
        "CoRNNCell": "coRNN",
    }.items():
        both = [there.of_nn_lstm[1, pair, work] for work in WORKS]
        assert f"{both[0]:.2f} and {both[1]:.2f} of {name}" in words


def test_the_five_answers_are_in_the_reports():
    (part,) = re.findall(r"^## Five answers\n(.*?)^## ", PAGE, re.M | re.S)
    rows = pd.read_csv(REFERENCE / "bench.csv")
    rows = rows[(rows.threads == 1) & (rows.work == "training_step")]
    ms = rows.pivot_table(index=[*"BTIH"], columns="layer", values="ms")
    for cell in ("LSTM", "GRU"):
        ratio = ms[cell] / ms["RNN"]
        answer = f"{ratio.min():.1f} to {ratio.max():.1f} times"
        assert answer in " ".join(part.split())
        part = " ".join(part.split()).replace(answer, "")
    reports = "".join((REFERENCE / name / "report.md").read_text() for name in EXPERIMENTS)
    assert numbers(part) - numbers(reports) - {"64"} == set()  # that many units each model has


def test_what_a_step_of_the_guides_cells_takes():
    (part,) = re.findall(r"^\*Time:\* (.*?)^## ", PAGE, re.M | re.S)
    steps = pd.read_csv(REFERENCE / "guide_steps.csv")
    ratios = steps.groupby("model").of_lstm.agg(["min", "max"])
    text, *table = part.split("\n|")
    assert numbers(text) - {"95%"} <= {f"{ratio:.2f}" for ratio in ratios.stack()}
    rivals = pd.read_csv(REFERENCE / "rivals.csv").set_index(["threads", "pair", "work"]).speed
    said = f"{rivals[2, 'minGRU, minGRU-pytorch', 'training']:.1f} times as long"
    assert said in " ".join(table[-1].split())

    ms = steps.set_index(["task", "model"]).ms
    called = {"running parity": "s3", "bits by heart": "RandomBits"}
    report = (REFERENCE / "guide" / "report.md").read_text()
    models = re.findall(r"`(\w+)`", table[0])
    for line in table[2:]:
        task, *seconds = (cell.strip() for cell in line.split("\n")[0].strip(" |").split("|"))
        (rows,) = re.findall(rf"^\| {task} \(without training.*?\n\n", report, re.M | re.S)
        for model, said in zip(models, seconds, strict=True):
            (many,) = re.findall(rf"^\| `{model}` .* \| ([\d,]+) \|$", rows, re.M)
            took = int(many.replace(",", "")) * ms[called.get(task, task), model] / 1e3
            assert said == ("not learnt" if (task, model) == ("running parity", "min_gru") else f"{took:.2f}")
    assert len(table) == 2 + ms.index.unique("task").size
