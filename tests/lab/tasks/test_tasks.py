"""The generators do what their docstrings say, at any length."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import Adding, Latch, Parity, TemporalOrder


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=30, deadline=None)
@given(seq_len=st.integers(2, 120), seed=st.integers(0, 2**16))
def test_adding_marks_one_number_in_each_half_and_adds_them(seq_len, seed):
    x, y, *_ = Adding(seq_len).sample(50, generator(seed))
    number, mark = x.unbind(-1)
    half = seq_len // 2
    assert x.shape == (50, seq_len, 2)
    assert ((number >= 0) & (number < 1)).all()
    assert mark[:, :half].sum(1).eq(1).all()
    assert mark[:, half:].sum(1).eq(1).all()
    assert set(mark.unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(y[:, 0], number[mark.bool()].view(50, 2).sum(1))


def test_adding_marks_every_place():
    x, _ = Adding(6).sample(2000, generator())
    share = x[..., 1].mean(0)
    torch.testing.assert_close(share, torch.full((6,), 1 / 3), atol=0.04, rtol=0)


def test_addings_chance_is_the_loss_of_the_best_constant():
    task = Adding(10)
    _, y, *_ = task.sample(200_000, generator())
    losses = {c: float(task.loss(torch.full_like(y, c), y)) for c in (0.9, 1.0, 1.1)}
    assert min(losses, key=losses.get) == 1.0
    assert losses[1.0] == pytest.approx(task.chance, rel=0.01)
    assert not task.solved(losses[1.0])
    assert task.solved(0.1 * task.chance)


def test_adding_counts_as_right_what_is_off_by_less_than_004():
    y = torch.tensor([[1.0], [1.0], [1.0], [1.0]])
    prediction = y + torch.tensor([[0.0], [0.03], [-0.05], [0.5]])
    assert Adding(5).accuracy(prediction, y) == 0.5


@settings(max_examples=30, deadline=None)
@given(seq_len=st.integers(10, 150), seed=st.integers(0, 2**16))
def test_temporal_order_hides_two_symbols_where_it_should(seq_len, seed):
    x, y, *_ = TemporalOrder(seq_len).sample(50, generator(seed))
    assert x.shape == (50, seq_len, 8)
    assert x.sum(-1).eq(1).all()
    symbols = x.argmax(-1)
    assert symbols[:, 0].eq(6).all()
    assert symbols[:, -1].eq(7).all()
    assert symbols[:, 1:-1].lt(6).all()
    for row, target in zip(symbols, y, strict=True):
        first, second = row.eq(4).logical_or(row.eq(5)).nonzero()[:, 0].tolist()
        assert int(0.1 * seq_len) <= first <= int(0.2 * seq_len)
        assert int(0.5 * seq_len) <= second <= int(0.6 * seq_len)
        assert target == 2 * (row[first] == 5) + (row[second] == 5)


@settings(max_examples=30, deadline=None)
@given(seq_len=st.integers(2, 120), seed=st.integers(0, 2**16))
def test_latch_shows_the_class_at_first_and_noise_ever_after(seq_len, seed):
    x, y, *_ = Latch(seq_len).sample(50, generator(seed))
    symbol, noise = x.unbind(-1)
    assert x.shape == (50, seq_len, 2)
    assert symbol[:, 0].tolist() == [(-1, 1)[k] for k in y]
    assert symbol[:, 1:].eq(0).all()
    assert noise[:, 0].eq(0).all()
    assert noise[:, 1:].ne(0).all()


def test_latchs_noise_is_normal_and_says_nothing_of_the_class():
    x, y, *_ = Latch(5).sample(40_000, generator())
    noise = x[:, 1:, 1]
    for part in (noise[y == 0], noise[y == 1]):
        torch.testing.assert_close(part.mean(0), torch.zeros(4), atol=0.03, rtol=0)
        torch.testing.assert_close(part.std(0), torch.ones(4), atol=0.03, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seq_len=st.integers(2, 120), seed=st.integers(0, 2**16))
def test_parity_tells_whether_the_number_of_ones_is_odd(seq_len, seed):
    x, y, *_ = Parity(seq_len).sample(50, generator(seed))
    assert x.shape == (50, seq_len, 1)
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    assert [sum(bit == 1 for bit in row) % 2 for row in x[..., 0].tolist()] == y.tolist()


def test_all_bits_but_one_say_nothing_of_the_parity():
    x, y, *_ = Parity(4).sample(40_000, generator())
    seen = (x[:, 1:, 0] == 1).long() @ torch.tensor([4, 2, 1])
    share = torch.stack([y[seen == pattern].float().mean() for pattern in range(8)])
    torch.testing.assert_close(share, torch.full((8,), 0.5), atol=0.03, rtol=0)


@pytest.mark.parametrize(("task", "classes"), [(TemporalOrder(20), 4), (Latch(20), 2), (Parity(20), 2)])
def test_chance_and_accuracy_of_a_choice_between_classes(task, classes):
    _, y, *_ = task.sample(8000, generator())
    assert task.chance == math.log(classes)
    assert float(task.loss(torch.zeros(8000, task.output_size), y)) == pytest.approx(task.chance)
    torch.testing.assert_close(y.bincount() / 8000, torch.full((classes,), 1 / classes), atol=0.02, rtol=0)
    prediction = torch.eye(classes)[y]
    assert task.accuracy(prediction, y) == 1
    assert task.accuracy(prediction.roll(1, -1), y) == 0


@pytest.mark.parametrize("task", [Adding, TemporalOrder, Latch, Parity])
def test_the_generator_alone_decides(task):
    a, b, c = (task(30).sample(5, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(s, t) for s, t in zip(a, b, strict=True))
    assert not torch.equal(a[0], c[0])


@pytest.mark.parametrize(("task", "shortest"), [(Adding, 2), (TemporalOrder, 10), (Latch, 2), (Parity, 2)])
@pytest.mark.parametrize("seq_len", [0, -5, 1, 2.5, "abc"])
def test_impossible_lengths_are_refused(task, shortest, seq_len):
    with pytest.raises(ValueError, match=f"seq_len must be an integer of at least {shortest}, got {seq_len}"):
        task(seq_len)
