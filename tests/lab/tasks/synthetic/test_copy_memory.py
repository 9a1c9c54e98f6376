"""What was shown long before is said again."""

import math

import pytest
import torch
from generators import generator, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import IGNORE, CopyMemory


@settings(max_examples=40, deadline=None)
@given(
    items=st.integers(1, 12),
    kinds=st.integers(2, 9),
    more=st.integers(1, 60),
    recall_only=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_the_first_symbols_are_the_last_targets(items, kinds, more, recall_only, seed):
    task = CopyMemory(2 * items + more, items, kinds, recall_only)
    x, target, *_ = task.sample(20, generator(seed))
    blank, sign = kinds, kinds + 1
    assert x.shape == target.shape == (20, 2 * items + more)
    assert (x[:, :items] < kinds).all()
    for row in x[:, items:].tolist():
        assert row == [blank] * (more - 1) + [sign] + [blank] * items
    assert torch.equal(target[:, -items:], x[:, :items])
    assert (target[:, :-items] == (IGNORE if recall_only else blank)).all()


def test_the_example_of_the_docstring():
    x, target, *_ = CopyMemory(8, items=2).sample(200, generator())
    (row,) = (x[:, :2] == torch.tensor([5, 3])).all(1).nonzero()[:1, 0]
    assert x[row].tolist() == [5, 3, 8, 8, 8, 9, 8, 8]
    assert target[row].tolist() == [8, 8, 8, 8, 8, 8, 5, 3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seq_len": 120}, 10 * math.log(8) / 120),
        ({"seq_len": 120, "recall_only": True}, math.log(8)),
        ({"seq_len": 30, "items": 3, "kinds": 2}, 3 * math.log(2) / 30),
    ],
)
def test_the_memoryless_baseline_scores_what_arithmetic_says(options, expected):
    task = CopyMemory(**options)
    assert task.baseline_loss == pytest.approx(expected)
    found = measured(task)["memoryless"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["recalled"] == pytest.approx(1 / task.kinds, abs=0.02)
    assert not task.solved(found["loss"])


def test_blanks_are_not_counted_as_recalled():
    metric = CopyMemory(5, items=2, kinds=3).metrics()["recalled"]
    target = torch.tensor([3, 3, 3, 1, 2])
    metric.update(torch.eye(4)[torch.tensor([3, 3, 3, 1, 0])], target)
    assert metric.compute() == 0.5


def test_what_was_shown_stands_beside_what_was_said():
    task = CopyMemory(9, items=2, kinds=3)
    x = task.sample(4, generator()).input
    (text,) = task.examples(lambda batch: torch.eye(4)[batch.target]).values()
    assert text.splitlines()[2:] == [f"    {a} {b}   ->   {a} {b}" for a, b in x[:, :2].tolist()]
    (text,) = task.examples(lambda batch: torch.eye(4)[torch.full_like(batch.target, 3)]).values()
    assert all(line.endswith("->   - -") for line in text.splitlines()[2:])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"items": 0}, "items must be an integer of at least 1, got 0"),
        ({"kinds": 1}, "kinds must be an integer of at least 2, got 1"),
        ({"kinds": 2.5}, "kinds must be an integer of at least 2, got 2.5"),
        ({"items": 30}, "seq_len must be an integer of at least 61, got 60"),
    ],
)
def test_impossible_options_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        CopyMemory(60, **options)
