"""Arithmetic among letters."""

import pytest
import torch
from generators import generator

from carousel.lab.tasks import IGNORE, Arithmetic, real
from carousel.lab.tasks.synthetic.arithmetic import SYMBOLS, text


def test_the_answer_is_that_of_python():
    batch = Arithmetic(digits=3, distractors=2).sample(300, generator())
    signs, letters = set(), 0
    for x, target, length in zip(batch.input, batch.target, batch.lengths.tolist(), strict=True):
        said, asked = text(x[:length]), target != IGNORE
        question, _, read = said.partition("=")
        sum_ = "".join(s for s in question if not s.isalpha())
        answer = text(target[asked])
        first, second = sum_.replace("-", "+").split("+")
        assert answer == f"{int(first) + int(second) * (-1 if '-' in sum_ else 1)}."
        assert read + "." == answer
        assert asked.nonzero()[:, 0].tolist() == list(range(len(question), length))
        assert first == str(int(first))
        assert len(first) <= 3
        signs.add(answer[0] == "-")
        letters += len(question) - len(sum_)
    assert signs == {True, False}
    assert letters / 300 == pytest.approx(6, rel=0.1)  # one before each of six symbols in the mean


def test_the_example_of_the_docstring():
    letters, there = torch.full((1, 6, 1), SYMBOLS.index("e")), torch.zeros(1, 6, 1, dtype=torch.bool)
    there[0, 1] = True
    task = Arithmetic(digits=2, distractors=1)
    x, target, lengths, _ = task.written(torch.tensor([[33, 34]]), torch.tensor([True]), letters, there)
    assert text(x[0]) == "3e3-34=-1"
    assert target[0].tolist() == [IGNORE] * 6 + [SYMBOLS.index(s) for s in "-1."]
    assert lengths.tolist() == [9]


def test_who_knows_the_place_alone_knows_a_little():
    task = Arithmetic()
    batch = task.sample(500, generator())
    place, constant = (task.loss(*real(task, batch, predict(batch))) for predict in task.baselines().values())
    assert 2 < place < constant < 2.5


def test_more_digits_than_fit_are_refused():
    task = Arithmetic(digits=17, distractors=0)
    nines = torch.full((1, 2), 10**17 - 1)
    x, _, _, _ = task.written(nines, torch.tensor([False]), torch.zeros(1, 36, 0).long(), torch.zeros(1, 36, 0).bool())
    assert text(x[0]).endswith(f"={2 * (10**17 - 1)}")
    with pytest.raises(ValueError, match="digits must be an integer of 1 to 17, got 18"):
        Arithmetic(digits=18)
    with pytest.raises(ValueError, match="distractors must be an integer of 0 to 1000, got -1"):
        Arithmetic(distractors=-1)
