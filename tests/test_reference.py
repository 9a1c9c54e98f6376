"""The reference results: what stands in their tables is what their reports, figures and pages say."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from carousel.lab.experiments import EXPERIMENTS
from carousel.lab.report import write_report

REFERENCE = Path(__file__).parents[1] / "outputs" / "reference"
FOLDERS = sorted(path.parent.name for path in REFERENCE.glob("*/results.csv"))
PAGE = (REFERENCE / "README.md").read_text()


def test_every_experiment_has_its_reference():
    assert set(FOLDERS) == {"vanishing_gradients", *EXPERIMENTS}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_report_follows_from_the_tables(tmp_path, name):
    copy = shutil.copytree(REFERENCE / name, tmp_path / name)
    (copy / "report.md").unlink()
    write_report(copy)
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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_numbers_of_the_page_are_the_reports(name):
    """All that has a decimal point, a percent sign, a slash (seeds) or three digits, in what is said to have come out
    under the experiment's name."""
    (part,) = re.findall(rf"^## [^\n]*`{name}`\n.*?^\*Came out\*(.*?)^\*Means:\*", PAGE, re.M | re.S)
    report = (REFERENCE / name / "report.md").read_text()
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|\b(19|20)\d\d\b", "", part)
    numbers = re.findall(r"\d[\d.]*e-\d+|\d+\.\d+|\d+%|\d+/\d+|\b\d[\d,]{2,}\b", text)
    assert len(numbers) > 2
    assert [number for number in numbers if number not in report] == []
