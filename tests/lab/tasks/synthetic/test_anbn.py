"""So many a, then as many b."""

import math
import re

import pytest
import torch
from generators import generator, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.data import SequenceData
from carousel.lab.tasks import IGNORE, AnBn, real


@settings(max_examples=40, deadline=None)
@given(letters=st.integers(2, 4), n_min=st.integers(1, 9), more=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_every_sequence_is_a_word_and_its_targets_the_next_symbols(letters, n_min, more, seed):
    task = AnBn(n_min, n_min + more, letters)
    x, target, lengths, _ = task.sample(20, generator(seed))
    for row, answers, end in zip(x.tolist(), target.tolist(), lengths.tolist(), strict=True):
        n = end // letters
        assert n_min <= n <= n_min + more
        word = [k for k in range(letters) for _ in range(n)]
        assert row[:end] == word
        assert answers[:end] == [IGNORE] * n + word[n + 1 :] + [letters]
        assert set(answers[end:]) <= {IGNORE}
    assert task.longest() <= letters * task.n_max


def test_the_examples_of_the_docstring():
    for letters, n, word, answers in ((2, 3, "aaabbb", "---bbE"), (3, 2, "aabbcc", "--bccE")):
        x, target, lengths, _ = AnBn(letters=letters).sequences(torch.tensor([n]))
        assert "".join("abc"[k] for k in x[0]) == word
        end = {IGNORE: "-", letters: "E"}
        assert "".join(end.get(k, "abc"[k % 3]) for k in target[0].tolist()) == answers
        assert lengths.tolist() == [len(word)]


def test_all_n_are_equally_likely():
    lengths = AnBn(3, 6).sample(20_000, generator()).lengths
    torch.testing.assert_close((lengths // 2).bincount()[3:] / 20_000, torch.full((4,), 0.25), atol=0.015, rtol=0)


@pytest.mark.parametrize("letters", [2, 3])
def test_the_baseline_is_what_the_last_symbol_alone_tells(letters):
    task = AnBn(1, 10, letters)
    q = 1 / 5.5
    assert task.baseline_loss == pytest.approx(-q * math.log(q) - (1 - q) * math.log(1 - q))
    found = measured(task)["the last symbol alone"]
    assert found["loss"] == pytest.approx(task.baseline_loss, rel=0.02)
    assert found["accuracy"] == pytest.approx(1 - q, abs=0.01)
    assert found["accepted"] == pytest.approx(0, abs=0.01)
    if letters == 2:  # in sequences of one length
        assert measured(AnBn(4, 4))["the last symbol alone"]["loss"] == pytest.approx(AnBn(4, 4).baseline_loss)


def test_a_sequence_is_accepted_if_all_is_right():
    task = AnBn()
    batch = task.sequences(torch.tensor([2, 1, 3, 1]))
    prediction = torch.eye(3)[batch.target.clamp(min=0)]
    prediction[2, 4] = torch.eye(3)[2]  # the end, one too early
    prediction[0, 0] = torch.tensor([0.0, 0.0, 9.0])  # nothing is asked for here
    metrics = task.metrics()
    for metric in metrics.values():
        metric.update(*real(task, batch, prediction))
    assert metrics["accepted"].compute() == 0.75
    assert metrics["accuracy"].compute() == pytest.approx(6 / 7)


def counted(batch):
    """The prediction of one who counts up to four."""
    x, n = batch.input, (batch.input == 0).sum(1, keepdim=True).clamp(max=4)
    after = torch.where(x == 0, 0, 1 + ((x == 1).cumsum(1) >= n))
    return torch.eye(3)[after]


def test_what_is_accepted_is_listed():
    said = "Trained on n = 1 to 3; of n = 1 to 6 it accepts "
    assert AnBn(1, 3).examples(counted) == {"accepted": said + "1 to 4."}
    assert AnBn(1, 3).examples(lambda batch: torch.zeros(1, batch.input.size(1), 3)) == {"accepted": said + "none."}
    odd = AnBn(1, 3).examples(lambda batch: counted(batch) * (batch.lengths % 3 > 0)[:, None, None])
    assert odd == {"accepted": said + "1 to 2, 4."}


def test_test_sequences_are_longer():
    for task, low, high in ((AnBn(2, 4), 5, 8), (AnBn(2, 4, test_n_min=9, test_n_max=12), 9, 12)):
        data = SequenceData(task, 4, 200)
        for split, first, last in (("train", 2, 4), ("val", 2, 4), ("test", low, high)):
            batch = next(iter(getattr(data, f"{split}_dataloader")()))
            assert first <= int(batch.lengths.min()) // 2
            assert int(batch.lengths.max()) // 2 <= last
    assert AnBn(2, 4, test_n_min=2, test_n_max=4).tested() == AnBn(2, 4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"letters": 1}, "letters must be an integer of 2 to 26, got 1"),
        ({"n_min": 0}, "^n_min and n_max must be integers of at least 1 and 2, .* got 0 and 10"),
        ({"n_min": 11}, "^n_min and n_max must .* got 11 and 10"),
        ({"n_max": 1}, "^n_min and n_max must .* got 1 and 1"),
        ({"n_max": 2.5}, "^n_min and n_max must .* got 1 and 2.5"),
        ({"n_max": "x"}, "^n_min and n_max must .* got 1 and x"),
        ({"test_n_min": 21}, "^test_n_min and test_n_max must .* got 21 and 20"),
        ({"test_n_max": 0}, "^test_n_min and test_n_max must .* got 11 and 0"),
    ],
)
def test_impossible_options_are_refused(options, line):
    with pytest.raises(ValueError, match=re.compile(line)):
        AnBn(**options)
