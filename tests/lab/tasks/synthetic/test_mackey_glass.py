"""The Mackey-Glass series, against what is known in closed form and against finer steps."""

import math

import pytest
import torch

from carousel.lab.module import scores
from carousel.lab.tasks import MackeyGlass
from carousel.lab.tasks.synthetic.mackey_glass import mackey_glass


def test_the_beginning_is_an_exponential():
    x = mackey_glass(17, 18)
    c = 2.4 / (1 + 1.2**10)
    expected = [c + (1.2 - c) * math.exp(-0.1 * t) for t in range(18)]
    torch.testing.assert_close(x, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)
    assert [round(value, 4) for value in x[1:4].tolist()] == [1.1176, 1.0430, 0.9755]


def test_half_the_step_is_a_sixteenth_of_the_error():
    coarse, fine, finest = (mackey_glass(17, 120, substeps) for substeps in (5, 10, 40))
    ratio = (coarse - finest).abs().max() / (fine - finest).abs().max()
    assert 11 < ratio < 22


def test_the_values_may_be_further_apart_or_closer():
    whole = mackey_glass(17, 40, substeps=10)
    assert torch.equal(mackey_glass(17, 14, substeps=10, every=30), whole[::3])
    torch.testing.assert_close(mackey_glass(17, 79, substeps=10, every=5)[::2], whole)


def test_a_constant_that_solves_the_equation_stays():
    x = mackey_glass(17, 50, begin=1.0)  # 0.2 / (1 + 1) = 0.1
    torch.testing.assert_close(x, torch.ones(50, dtype=torch.float64))


def test_without_a_long_delay_the_series_comes_to_rest():
    torch.testing.assert_close(mackey_glass(2, 1500)[-1], torch.tensor(1.0, dtype=torch.float64))


def test_the_series_and_its_splits():
    task = MackeyGlass()
    assert task.values().shape == (10_000,)
    assert task.values()[0] == mackey_glass(17, 11_001)[1001]
    assert 0.2 < task.values().min() < task.values().max() < 1.4
    assert [len(task.split(name).target) for name in ("train", "val", "test")] == [7901, 951, 951]
    with pytest.raises(ValueError, match="tau must be an integer of at least 1, got 0"):
        MackeyGlass(tau=0)


def test_what_the_baselines_score():
    """Loosely, for chaos lets the last digits of one processor differ from another's after some hundred steps."""
    task = MackeyGlass()
    found = {name: scores(task, predict, [task.split("test")])["mae"] for name, predict in task.baselines().items()}
    assert found == pytest.approx({"50 steps ago": 0.151, "last value": 0.2566, "best constant": 0.1909}, rel=0.1)
