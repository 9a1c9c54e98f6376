"""Signals that a package makes."""

import importlib.util
import random
import sys

import numpy as np
import pytest
import torch

from carousel.lab.data import SequenceData
from carousel.lab.module import scores
from carousel.lab.tasks import MNIST1D
from carousel.lab.tasks.real import mnist1d


def test_one_line_says_what_to_do_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(ValueError, match=r"^task=mnist1d needs the package mnist1d \(.*\): pip install mnist1d$"):
        mnist1d.made.__wrapped__()


@pytest.mark.skipif(not importlib.util.find_spec("mnist1d"), reason="mnist1d is not installed")
def test_the_signals_of_the_package():
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    task = MNIST1D()
    found = task.recorded()
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert [tuple(batch.input.shape) for batch in found.values()] == [(3600, 40, 1), (400, 40, 1), (1000, 40, 1)]
    assert found["train"].target[:8].tolist() == [2, 6, 4, 5, 6, 6, 6, 0]
    assert found["train"].input[0, :3, 0].tolist() == pytest.approx([-0.33200567, -0.47191037, -0.77869708])
    signals = torch.cat([batch.input for batch in found.values()])
    assert len(signals.unique(dim=0)) == 5000
    train = task.split("train").input
    torch.testing.assert_close(torch.stack([train.mean(), train.std()]), torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)
    data = SequenceData(task, 32)
    right = {name: round(1000 * scores(task, predict, data.test_dataloader())["accuracy"])
             for name, predict in task.baselines().items()}  # fmt: skip
    assert right == {"most frequent class": 89, "nearest mean": 286}
