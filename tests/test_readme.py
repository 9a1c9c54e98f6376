"""What the README and the pages in `src` say can be done."""

import re
import shlex
import statistics
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from carousel.lab.bench import LAYERS, MEASURES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.compile(r"```python\n(.*?)```", re.S)
BLOCKS = PYTHON.findall(README)
PAGES = [init.with_name("README.md") for init in sorted(ROOT.glob("src/**/__init__.py"))]
PAGES = {str(path.relative_to(ROOT)): path for path in PAGES if path.exists()}
TEXTS = {"README.md": ROOT / "README.md"} | PAGES


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_every_python_block_runs(code):
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning:keras")
@pytest.mark.parametrize("name", PAGES)
def test_every_page_runs_from_top_to_bottom(name):
    text, given = PAGES[name].read_text(), {}
    assert set(re.findall(r"^```(.*)\n", text, re.M)) <= {"", "python"}
    for code in PYTHON.findall(text):
        exec(compile(code, name, "exec"), given)


def test_the_two_lines_stand_at_the_top():
    first = README.split("```")[1].strip().splitlines()[-2:]
    assert first == [
        'python -m pip install -e ".[lab]" && python scripts/train.py experiment=vanishing_gradients',
        'python -m pip install -e ".[test]" && pytest',
    ]


def anchors(path):
    """Of a page's headings, as GitHub has them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_and_figure_is_there(name):
    targets = [t.partition("#") for t in re.findall(r"\]\(([^)]+)\)", TEXTS[name].read_text()) if "://" not in t]
    assert targets
    for place, _, anchor in targets:
        there = TEXTS[name].parent / place if place else TEXTS[name]
        assert there.exists(), place
        assert not anchor or anchor in anchors(there), anchor


def test_the_table_of_options_is_conf():
    for group in ("model", "task", "optimizer", "scheduler", "callbacks", "experiment"):
        (row,) = re.findall(rf"^\| `{group}` \|(.*)\|$", README, re.M)
        assert set(re.findall(r"`(\w+)`", row)) == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


def test_every_training_command_composes():
    texts = "".join(path.read_text() for path in TEXTS.values())
    commands = re.findall(r"python scripts/train\.py ([^\n#`&]*)", texts)
    assert len(commands) > 4
    for arguments in commands:
        overrides = [
            a for a in shlex.split(arguments) if a != "-m" and not a.startswith(("model.cell.path=my", "task.path=my"))
        ]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            compose("train", overrides=[re.sub(r"tag\(.*", "1", o).split(",")[0] for o in overrides])


def test_the_tables_of_the_bench_are_the_benchs():
    rows = pd.read_csv(ROOT / "outputs" / "reference" / "bench.csv")
    names = [name for name in LAYERS if not name.startswith("nn.")]
    for threads, table in rows.groupby("threads"):
        for shape, group in table.groupby(["B", "T", "I", "H"]):
            at = group.set_index(["layer", "work"])
            cells = [f"{at.speed[n, 'training_step']:.2f} / {at.speed[n, 'forward']:.2f}" for n in names]
            assert f"| {threads} | {', '.join(map(str, shape))} | {' | '.join(cells)} |" in README
            step = at.loc[("LSTM", "training_step")]
            memory = step.peak_mib / at.peak_mib["nn.LSTM", "training_step"]
            watched = at.ms["LSTM", "watched"] / step.ms - 1
            cells = [f"{step.of_matmul_peak:.0%}", f"{memory:.2f}", f"{watched:+.1%}"]
            assert f"| {threads} | {', '.join(map(str, shape))} | {' | '.join(cells)} |" in README
        means = table.groupby(["layer", "work"]).speed.agg(statistics.geometric_mean)
        cells = [f"{means[n, 'training_step']:.2f} / {means[n, 'forward']:.2f}" for n in names]
        assert f"| {threads} | geometric mean | {' | '.join(cells)} |" in README


def test_what_is_said_of_onednn_is_so():
    rows = pd.read_csv(ROOT / "outputs" / "reference" / "bench_xeon.csv")
    theirs = rows[(rows.layer == "nn.LSTM") & (rows.work == "forward") & (rows.threads == 1)]
    most = theirs.set_index([*"BTIH"]).of_matmul_peak.nlargest(2)
    quoted = [f"{share:.0%} ({', '.join(map(str, shape))})" for shape, share in most.items()]
    assert " and ".join(quoted) in README


def test_what_is_said_of_the_parts_of_a_call_is_the_benchs():
    rows = pd.read_csv(ROOT / "outputs" / "reference" / "parts.csv").set_index(["part", "B", "H", "beside", "work"])
    readme, engine = (" ".join(t.split()) for t in (README, (ROOT / "src/carousel/engine/README.md").read_text()))

    def ratio(*row, digits=2):
        return f"{rows.ratio[row]:.{digits}f}"

    small, single, large = (
        ratio("without activations", batch, units, "LSTM", "training")
        for batch, units in ((32, 32), (1, 256), (32, 128))
    )
    assert f"a training step takes {small} of its time at H = 32. At B = 1 it takes {single}:" in readme
    cells = (ratio("without activations", 32, 128, cell, "training") for cell in ("sLSTM", "Cho's GRU", "LEM"))
    said = "takes {} of its time for the sLSTM, {} for Cho's GRU and {} for LEM, where the LSTM's takes {}."
    assert said.format(*cells, large) in readme
    norm = ratio("without layer norm", 32, 128, "LSTM", "training")
    assert f"it is the norm, without which it takes {norm} " in readme
    forward, training = (ratio("a busy machine", 32, 128, "nn.LSTM", work) for work in ("inference", "training"))
    assert f"takes {forward} of nn.LSTM's time, and a training step {training} " in readme
    assert max(forward, training) < "1.00"
    (imported,) = rows.xs("import", level="work").itertuples()
    assert f"takes {imported.ms:.0f} ms of CPU time where `import torch` takes {imported.beside_ms:.0f}" in readme
    assert imported.ms < 50
    few, many = (ratio("packing", 1, units, "a step", "inference", digits=0) for units in (128, 512))
    assert f"as long as {few} steps of one sequence with 128 units and inputs, and {many} with 512" in engine


def test_the_table_of_the_measures_is_the_benchs():
    measures = pd.read_csv(ROOT / "outputs" / "reference" / "measures.csv")
    assert set(measures.measure) == set(MEASURES)
    for row in measures[measures.measure != "a training step"].itertuples():
        assert f"| {row.measure} | {row.training_steps:.1f} |" in README
