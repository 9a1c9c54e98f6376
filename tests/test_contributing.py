"""What CONTRIBUTING says is there, is there."""

import re
from pathlib import Path

import agreement
from conftest import QUICK

from carousel.engine.fused import TARGETS
from carousel.engine.fused.cpu.emit import OPERATIONS
from carousel.engine.fused.target import Kernel, Target
from carousel.lab.callbacks import Probe
from carousel.testing import check_cell

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_link_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_what_it_names_is_there():
    names = "Generated Recorded Stream Classification Regression"
    assert all(f"class {name}(Task)" in (ROOT / "src/carousel/lab/tasks/task.py").read_text() for name in names.split())
    assert all(f"`{name}`" in TEXT for name in names.split())
    assert all(f"`{kind.__name__}`" in TEXT for kind in (Kernel, Target, Probe))
    assert f"`carousel.testing.{check_cell.__name__}(MyCell)`" in TEXT
    tables = {"CATALOGUE": agreement.CATALOGUE, "OPERATIONS": OPERATIONS, "TARGETS": TARGETS}
    assert all(table and f"`{name}`" in TEXT for name, table in tables.items())


def test_quick_tests_are_there():
    for place in QUICK:
        path, _, name = place.partition("::")
        (found,) = ROOT.glob(f"tests/{path}*") if not name else [ROOT / "tests" / path]
        assert f"def {name}" in found.read_text() if name else found.exists()


def test_it_is_a_page():
    assert len(TEXT.splitlines()) <= 80
