"""Two marked numbers, added or multiplied."""

import pytest
import torch
from generators import generator, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import Adding, Multiplication


@settings(max_examples=30, deadline=None)
@given(
    task=st.sampled_from([(Adding, torch.sum), (Multiplication, torch.prod)]),
    seq_len=st.integers(2, 120),
    seed=st.integers(0, 2**16),
)
def test_one_number_is_marked_in_each_half_and_both_make_the_target(task, seq_len, seed):
    kind, answer = task
    x, y, *_ = kind(seq_len).sample(50, generator(seed))
    number, mark = x.unbind(-1)
    half = seq_len // 2
    assert x.shape == (50, seq_len, 2)
    assert ((number >= 0) & (number < 1)).all()
    assert mark[:, :half].sum(1).eq(1).all()
    assert mark[:, half:].sum(1).eq(1).all()
    assert set(mark.unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(y[:, 0], answer(number[mark.bool()].view(50, 2), 1))


def test_the_examples_of_the_docstrings():
    marked = torch.tensor([[0.7, 0.5]])
    assert Adding(6).answer(marked).item() == pytest.approx(1.2)
    assert Multiplication(6).answer(marked).item() == pytest.approx(0.35)


def test_both_show_the_same_numbers():
    a, b = (task(30).sample(5, generator(1)) for task in (Adding, Multiplication))
    assert torch.equal(a.input, b.input)
    assert not torch.equal(a.target, b.target)


def test_every_place_is_marked():
    x, *_ = Adding(6).sample(2000, generator())
    share = x[..., 1].mean(0)
    torch.testing.assert_close(share, torch.full((6,), 1 / 3), atol=0.04, rtol=0)


@pytest.mark.parametrize(("task", "best", "expected"), [(Adding(10), 1, 1 / 6), (Multiplication(10), 1 / 4, 7 / 144)])
def test_the_baseline_loss_is_that_of_the_best_constant(task, best, expected):
    _, y, *_ = task.sample(200_000, generator())
    losses = {c: float(task.loss(torch.full_like(y, c), y)) for c in (best - 0.1, best, best + 0.1)}
    assert min(losses, key=losses.get) == best
    assert losses[best] == pytest.approx(task.baseline_loss, rel=0.01)
    assert task.baseline_loss == expected
    assert not task.solved(losses[best])
    assert task.solved(0.1 * task.baseline_loss)


def test_the_best_constant_is_fitted_on_training_data():
    for task, within in ((Adding(10), 0.075), (Multiplication(10), 0.106)):
        found = measured(task)["best constant"]
        assert found["loss"] == pytest.approx(task.baseline_loss, rel=0.03)
        assert found["within_0.04"] == pytest.approx(within, abs=0.01)


def test_what_is_off_by_less_than_004_is_right():
    y = torch.tensor([[1.0], [1.0], [1.0], [1.0]])
    metric = Adding(5).metrics()["within_0.04"]
    metric.update(y + torch.tensor([[0.0], [0.03], [-0.05], [0.5]]), y)
    assert metric.compute() == 0.5
