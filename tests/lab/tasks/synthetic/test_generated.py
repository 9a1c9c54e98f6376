"""What all generators have in common."""

import math

import pytest
import torch
from generators import generator

from carousel.lab.tasks import Adding, CopyMemory, Latch, Multiplication, Parity, TemporalOrder, WordProblem


@pytest.mark.parametrize(("task", "classes"), [(TemporalOrder(20), 4), (Latch(20), 2), (Parity(20), 2)])
def test_chance_and_accuracy_of_a_choice_between_classes(task, classes):
    _, y, *_ = task.sample(8000, generator())
    assert task.baseline_loss == math.log(classes)
    assert float(task.loss(torch.zeros(8000, task.output_size), y)) == pytest.approx(task.baseline_loss)
    torch.testing.assert_close(y.bincount() / 8000, torch.full((classes,), 1 / classes), atol=0.02, rtol=0)
    prediction = torch.eye(classes)[y]
    for given, right in ((prediction, 1), (prediction.roll(1, -1), 0)):
        metric = task.metrics()["accuracy"]
        metric.update(given, y)
        assert metric.compute() == right


LENGTHS = [(Adding, 2), (Multiplication, 2), (TemporalOrder, 10), (Latch, 2), (Parity, 2), (CopyMemory, 21)]


@pytest.mark.parametrize(("task", "shortest"), LENGTHS)
@pytest.mark.parametrize("seq_len", [0, -5, 1, 2.5, "abc"])
def test_impossible_lengths_are_refused(task, shortest, seq_len):
    with pytest.raises(ValueError, match=f"seq_len must be an integer of at least {shortest}, got {seq_len}"):
        task(seq_len)


@pytest.mark.parametrize("task", [*(task(shortest) for task, shortest in LENGTHS), WordProblem(1)])
def test_the_least_length_has_sequences(task):
    x, target, *_ = task.sample(20, generator())
    assert x.shape[:2] == (20, task.seq_len)
    assert len(target) == 20


def test_a_task_is_tested_on_its_own_sequences_unless_it_says_otherwise():
    assert Adding(10).tested() == Adding(10)
