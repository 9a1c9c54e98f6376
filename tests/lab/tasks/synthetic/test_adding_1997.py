"""The adding problem of 1997."""

import pytest
import torch
from generators import generator

from carousel.lab.tasks import Adding1997


def test_the_marked_numbers_make_the_target():
    x, y, lengths = Adding1997(40).sample(2000, generator())[:3]
    number, mark = x.unbind(-1)
    assert set(lengths.tolist()) == set(range(40, 45))
    for row, length in enumerate(lengths.tolist()):
        assert not x[row, length:].any()
        ones = mark[row].eq(1).nonzero()[:, 0].tolist()
        first, second = ones
        assert first < 10  # the earlier of the two is, whichever was drawn among the first ten
        assert second < 20
        assert mark[row, length - 1] == -1
        assert mark[row, 0] == (1 if first == 0 else -1)
        assert number[row, 0] == 0 or first > 0
        assert float(y[row]) == pytest.approx(0.5 + float(number[row, ones].sum()) / 4)
    assert number.min() < -0.99


def test_the_output_unit_is_logistic():
    task, y = Adding1997(22), torch.tensor([[0.5], [0.8]])
    logits = torch.tensor([[0.0], [0.0]])
    assert float(task.loss(logits, y)) == pytest.approx((0.3**2 / 2) / 2)
    assert task.answer(logits).tolist() == [[0.5], [0.5]]
    metric = task.metrics()["within_0.04"]
    metric.update(logits, torch.tensor([[0.53], [0.55]]))
    assert metric.compute() == 0.5


def test_the_baseline_loss_is_that_of_a_half():
    task = Adding1997(100)
    _, y, *_ = task.sample(50_000, generator())
    assert float(task.loss(torch.zeros_like(y), y)) == pytest.approx(task.baseline_loss, rel=0.01)
