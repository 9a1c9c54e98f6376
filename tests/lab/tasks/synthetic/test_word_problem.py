"""Products of permutations."""

import math
from itertools import permutations

import pytest
import torch
from generators import generator, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.data import SequenceData
from carousel.lab.tasks import WordProblem


@settings(max_examples=40, deadline=None)
@given(things=st.integers(2, 5), seq_len=st.integers(1, 40), seed=st.integers(0, 2**16))
def test_the_target_is_where_each_thing_has_gone(things, seq_len, seed):
    x, target, *_ = WordProblem(seq_len, things).sample(10, generator(seed))
    elements = list(permutations(range(things)))
    assert x.shape == target.shape == (10, seq_len)
    for row, answers in zip(x.tolist(), target.tolist(), strict=True):
        places = list(range(things))  # of each thing
        for move, answer in zip(row, answers, strict=True):
            places = [elements[move][place] for place in places]
            assert tuple(places) == elements[answer]


def test_the_example_of_the_docstring():
    x, target, *_ = WordProblem(3).sample(5000, generator())
    (row,) = (x == torch.tensor([2, 3, 1])).all(1).nonzero()[:1, 0]
    assert target[row].tolist() == [2, 5, 3]
    assert list(permutations(range(3)))[5] == (2, 1, 0)


def test_two_things_make_parity_at_every_step():
    x, target, *_ = WordProblem(30, 2).sample(20, generator())
    assert torch.equal(target, x.cumsum(1) % 2)


def test_three_things_do_not_commute():
    x, target, *_ = WordProblem(2).sample(3000, generator())
    pairs = {tuple(row): answer for row, answer in zip(x.tolist(), target[:, 1].tolist(), strict=True)}
    assert len(pairs) == 36
    assert pairs[2, 1] != pairs[1, 2]


@pytest.mark.parametrize("things", [2, 3, 4])
def test_chance_is_that_of_a_guess(things):
    task = WordProblem(15, things)
    assert task.baseline_loss == math.log(math.factorial(things))
    found = measured(task)["most frequent class"]
    assert found["loss"] == pytest.approx(task.baseline_loss, rel=0.002)
    assert found["accuracy"] == pytest.approx(1 / task.output_size, abs=0.01)


def test_the_test_sequences_may_be_longer():
    data = SequenceData(WordProblem(20, test_seq_len=70), 4, 8)
    assert next(iter(data.val_dataloader())).input.shape == (8, 20)
    assert next(iter(data.test_dataloader())).input.shape == (8, 70)


def test_the_figure_shows_the_share_of_right_answers_at_each_step():
    task = WordProblem(3, test_seq_len=5)

    def up_to_three(batch):
        return torch.eye(6)[batch.target] * (torch.arange(5) < 3)[:, None]  # then always the first class

    (figure,) = task.examples(up_to_three).values()
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
    assert line.get_ydata()[:3].tolist() == [1, 1, 1]
    assert line.get_ydata()[3:].tolist() == pytest.approx([1 / 6, 1 / 6], abs=0.05)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"things": 1}, "things must be an integer of 2 to 5, got 1"),
        ({"things": 6}, "things must be an integer of 2 to 5, got 6"),
        ({"test_seq_len": 0}, "test_seq_len must be null or an integer of at least 1, got 0"),
        ({"seq_len": 0}, "seq_len must be an integer of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        WordProblem(**({"seq_len": 5} | options))
