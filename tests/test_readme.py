"""What the README says can be done."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_every_python_block_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def test_the_two_lines_stand_at_the_top():
    first = README.split("```")[1].strip().splitlines()[-2:]
    assert first == [
        "python -m pip install -e . && python scripts/train.py experiment=vanishing_gradients",
        'python -m pip install -e ".[test]" && pytest',
    ]


def test_every_link_and_figure_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert [t for t in targets if not t.startswith("http") and not (ROOT / t).exists()] == []


def test_every_config_option_is_named():
    for path in (ROOT / "conf").glob("*/*.yaml"):
        assert f"`{path.stem}`" in README, path


def test_the_table_of_results_is_the_reference_runs():
    results = pd.read_csv(ROOT / "outputs" / "reference" / "vanishing_gradients" / "results.csv")
    share = results.groupby(["label", "seq_len"])["solved"].agg(["sum", "count"])
    lengths = sorted(results["seq_len"].unique())
    for label in results["label"].unique():
        cells = [f"{share.loc[(label, n), 'sum']}/{share.loc[(label, n), 'count']}" for n in lengths]
        assert f"| `{label}` | {' | '.join(cells)} |" in README
