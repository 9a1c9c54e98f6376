"""The reference results: what stands in their tables is what their reports, figures and pages say."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from carousel.lab.experiments import EXPERIMENTS
from carousel.lab.report import write_report
from carousel.lab.results import collect

REFERENCE = Path(__file__).parents[1] / "outputs" / "reference"
FOLDERS = sorted(path.parent.name for path in REFERENCE.glob("*/results.csv"))
PAGE = (REFERENCE / "README.md").read_text()


def test_every_experiment_has_its_reference():
    assert set(FOLDERS) == {"vanishing_gradients", *EXPERIMENTS}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_report_follows_from_the_tables(tmp_path, name):
    copy = shutil.copytree(REFERENCE / name, tmp_path / name)
    for path in [copy / "report.md", *copy.glob("*.png")]:
        path.unlink()
    assert write_report(collect(copy), copy) == []
    assert (copy / "report.md").read_text() == (REFERENCE / name / "report.md").read_text()
    assert {p.name for p in copy.glob("*.png")} == {p.name for p in (REFERENCE / name).glob("*.png")}


@pytest.mark.parametrize("name", FOLDERS)
def test_three_seeds_and_every_run_finished(name):
    results = pd.read_csv(REFERENCE / name / "results.csv")
    assert set(results["status"]) == {"finished"}
    assert set(results["seed"]) == {0, 1, 2}
    assert results.groupby("label")["seed"].nunique().eq(3).all()


def test_every_link_and_figure_of_the_page_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert {f"{name}/{name}.png" for name in EXPERIMENTS} <= set(targets)
    assert [t for t in targets if not t.startswith("http") and not (REFERENCE / t).exists()] == []


def numbers(text: str) -> set[str]:
    """All but single digits, years, and what stands in code or in links."""
    text = re.sub(r"\]\([^)]*\)|\b(19|20)\d\d\b", "", text)
    found = re.findall(r"\d+/\d+|\d[\d,]*(?:\.\d+)?(?:e-\d+)?%?", text)
    return {number for number in (number.strip(",") for number in found) if len(number) > 1}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_said_to_have_come_out_is_in_the_report(name):
    (part,) = re.findall(rf"^## [^\n]*`{name}`\n.*?^\*Came out\*(.*?)^\*Means:\*", PAGE, re.M | re.S)
    said = numbers(part)
    assert len(said) > 3
    assert said - numbers((REFERENCE / name / "report.md").read_text()) == set()


def test_the_four_answers_are_in_the_reports():
    (part,) = re.findall(r"^## Four answers\n(.*?)^## ", PAGE, re.M | re.S)
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
