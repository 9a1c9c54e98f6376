"""Strings of the embedded Reber grammar."""

import math
import re

import pytest
import torch
from generators import generator, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import Reber, real

SYMBOLS = "BTSXPVE"


def grammatical(string):
    """Reber's grammar, written once more: the nodes at which a string can be, symbol by symbol."""
    arcs = {0: {"B": 1}, 1: {"T": 2, "P": 3}, 2: {"S": 2, "X": 4}, 3: {"T": 3, "V": 5}, 4: {"X": 3, "S": 6},
            5: {"P": 4, "V": 6}, 6: {"E": 7}}  # fmt: skip
    node = 0
    for symbol in string:
        node = arcs.get(node, {}).get(symbol)
    return node == 7


def words(batch):
    """Each sequence with the symbol that comes after it."""
    x, target, lengths, _ = batch
    for k, end in enumerate([x.size(1)] * len(x) if lengths is None else lengths.tolist()):
        yield "".join(SYMBOLS[s] for s in [*x[k, :end].tolist(), int(target[k, end - 1, 0])])


@pytest.mark.parametrize("string", ["BTSSXXTVVE", "BPVVE", "BTXXVPSE", "BPVPXVPXVPXVVE", "BTSXXVPSE", "BTXSE"])
def test_the_tests_own_grammar_is_rebers(string):
    assert grammatical(string)
    assert not grammatical(string[:-1])


@pytest.mark.parametrize("string", ["BTSSPXSE", "BPTVVB", "BTXXVVSE", "BPVSPSE", "BTSSSE"])
def test_and_has_no_other_strings(string):
    assert not grammatical(string)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_every_sequence_is_a_string_between_two_symbols_that_are_one(seed):
    batch = Reber().sample(20, generator(seed))
    for word in words(batch):
        assert word[0] + word[-1] == "BE"
        assert word[1] == word[-2]
        assert word[1] in "TP"
        assert grammatical(word[2:-2])
    assert batch.input.size(1) == batch.lengths.max()


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(9, 200), seed=st.integers(0, 2**16))
def test_continual_sequences_are_strings_one_after_the_other(steps, seed):
    batch = Reber(steps).sample(5, generator(seed))
    assert batch.input.shape == (5, steps)
    assert batch.lengths is None
    assert torch.equal(batch.target[:, :-1, 0], batch.input[:, 1:])
    for word in words(batch):
        *whole, rest = re.split("(?<=TE)(?=B[TP]B)|(?<=PE)(?=B[TP]B)", word)
        assert rest[0] == "B"
        for string in whole:
            assert string[1] == string[-2]
            assert grammatical(string[2:-2])


def test_the_example_of_the_docstring():
    x, target, lengths, _ = Reber().sample(500, generator())
    wanted = [SYMBOLS.index(s) for s in "BPBTXSEP"]
    (row,) = ((lengths == 8) & (x[:, :8] == torch.tensor(wanted)).all(1)).nonzero()[:1, 0]
    assert "".join(SYMBOLS[s] for s in target[row, :8, 0]) == "PBTXSEPE"
    legal = ["".join(s for s, may in zip(SYMBOLS, step[1:], strict=True) if may) for step in target[row, :8].tolist()]
    assert legal == ["TP", "B", "TP", "SX", "SX", "E", "P", "E"]


def test_what_is_legal_happens_equally_often():
    x, _, lengths, _ = batch = Reber().sample(5000, generator())
    assert lengths.float().mean() == pytest.approx(11, abs=0.15)
    _, steps = real(Reber(), batch, torch.zeros(*x.shape, 7))
    choices = steps[steps[:, 1:].sum(1) == 2]
    assert len(choices) / len(steps) == pytest.approx(7 / 11, abs=0.01)
    first = choices[:, 1:].argmax(1) == choices[:, 0]
    assert first.float().mean() == pytest.approx(0.5, abs=0.01)
    assert steps[:, 1:].gather(1, steps[:, :1]).all()


@pytest.mark.parametrize(("task", "expected"), [(Reber(), math.log(2) / 11), (Reber(3000), math.log(2) / 12)])
def test_chance_is_a_bit_for_each_string(task, expected):
    assert task.baseline_loss == pytest.approx(expected, rel=0.005)
    found = measured(task, 2000 if task.continual is None else 20)
    grammar = found["all but the second symbol"]
    assert grammar["loss"] == pytest.approx(task.baseline_loss, rel=0.01)
    assert grammar["closed"] == pytest.approx(0.5, abs=0.03)
    assert grammar["all_legal"] == pytest.approx(1 - (1 / 11 if task.continual is None else 1 / 12), abs=0.005)
    assert found["the last symbol alone"]["loss"] == pytest.approx(0.83 if task.continual is None else 0.87, abs=0.01)
    assert not task.solved(grammar["loss"])
    assert task.solved(0.0)


def test_who_knows_what_is_legal_loses_nothing():
    task = Reber()
    batch = task.sample(50, generator())
    prediction, target = real(task, batch, batch.target[..., 1:].clamp(min=0).float().mul(50))
    assert float(task.loss(prediction, target)) == pytest.approx(0, abs=1e-6)
    metrics = task.metrics()
    for metric in metrics.values():
        metric.update(prediction, target)
    assert {name: float(metric.compute()) for name, metric in metrics.items()} == dict.fromkeys(metrics, 1.0)


def test_the_metrics_by_hand():
    #                     next T, T or P legal    next T, T alone          next E, E alone
    target = torch.tensor([[1, 0, 1, 0, 0, 1, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0, 1]])
    prediction = torch.zeros(3, 7)
    prediction[0, 4], prediction[0, 5] = 2.0, 1.0  # P, and V before T
    prediction[1, 1] = 1.0  # T
    prediction[2, 0] = 1.0  # B
    expected = {"legal": 2 / 3, "all_legal": 1 / 3, "closed": 1.0}
    for name, metric in Reber().metrics().items():
        metric.update(prediction, target)
        assert metric.compute() == pytest.approx(expected[name])


@pytest.mark.parametrize("steps", [0, 8, True, 2.5, "abc"])
def test_impossible_options_are_refused(steps):
    with pytest.raises(ValueError, match=f"continual must be null or an integer of at least 9, got {steps}"):
        Reber(steps)


def test_what_is_legal_is_shown_beside_what_is_likeliest():
    (text,) = Reber().examples(lambda batch: batch.target[..., 1:].float()).values()
    rows = [row.strip("| ").split(" | ") for row in text.splitlines()[2:]]
    assert rows[0] == ["B", "T P", "T P"]
    assert all(legal == likeliest for _, legal, likeliest in rows)
    (text,) = Reber().examples(lambda batch: -batch.target[..., 1:].float()).values()
    rows = [row.strip("| ").split(" | ") for row in text.splitlines()[2:]]
    assert not any(legal == likeliest for _, legal, likeliest in rows)
