"""Electricity and sunspots: what was recorded, what baselines score, and that ours and torch's layers learn alike."""

import pytest
import torch

import carousel
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import Electricity, Sunspots


def test_what_electricity_holds():
    task = Electricity()
    load = task.values()
    assert load.shape == (26_304,)
    assert load[:3].tolist() == [1300.576323987539, 1404.4859813084113, load[2]]
    assert load[-1] == pytest.approx(1439.395639, abs=1e-6)
    assert torch.equal((load * 321).round() / 321, load)
    assert (load < 600).nonzero()[:, 0].tolist() == [2017, 10921, 19657]  # when clocks are put forward
    first = task.answer(task.split("train").input[0, :, 0]), task.answer(task.split("train").target[0])
    torch.testing.assert_close(torch.cat(first).double(), load[:192], rtol=1e-6, atol=1e-3)


def test_when_electricitys_splits_begin():
    task = Electricity()
    spans = {name: (task.when(begin), task.when(end)) for name, (begin, end) in task.spans().items()}
    assert spans == {
        "train": ("Sun 08 Jan 2012, 00:00", "Wed 01 Jan 2014, 00:00"),
        "val": ("Wed 01 Jan 2014, 00:00", "Tue 01 Jul 2014, 00:00"),
        "test": ("Tue 01 Jul 2014, 00:00", "Thu 01 Jan 2015, 00:00"),
    }
    assert [len(task.split(name).target) for name in spans] == [724, 181, 184]


def test_what_sunspots_hold():
    task = Sunspots()
    spots = task.values()
    assert spots.shape == (309,)
    assert spots[:7].tolist() == [5, 11, 16, 23, 36, 58, 29]
    assert spots[-3:].tolist() == [15.2, 7.5, 2.9]
    assert spots[1957 - 1700] == spots.max() == 190.2
    assert [task.when(begin) for begin, _ in task.spans().values()] == ["from 1733", "from 1921", "from 1956"]
    assert [len(task.split(name).target) for name in ("train", "val", "test")] == [178, 25, 43]


@pytest.mark.parametrize(
    ("task", "mae", "mase"),
    [
        (
            Electricity(),
            {"a day ago": 97.193, "a week ago": 156.765, "last value": 960.198, "best constant": 370.797},
            {"a day ago": 1.07473, "a week ago": 1.73346},
        ),
        (
            Sunspots(),
            {"11 years ago": 28.0175, "last value": 57.2167, "best constant": 44.2176},
            {"11 years ago": 1.30041},
        ),
    ],
    ids=["electricity", "sunspots"],
)
def test_what_the_baselines_score(task, mae, mase):
    found = {name: scores(task, predict, [task.split("test")]) for name, predict in task.baselines().items()}
    assert {name: score["mae"] for name, score in found.items()} == pytest.approx(mae, rel=1e-5)
    assert {name: found[name]["mase"] for name in mase} == pytest.approx(mase, rel=1e-5)


def trained(kind, task, steps):
    """The losses on the validation data after so many training steps."""
    torch.manual_seed(0)
    model = SequenceModel(kind(1, 8, batch_first=True, dtype=torch.float64), task)
    module = SequenceModule(model, task)
    batches = iter(SequenceData(task, 8).train_dataloader())
    adam = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = module.loss(next(batches))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return module.loss(task.split("val")).item()


@pytest.mark.parametrize("task", [Electricity(window=48), Sunspots()], ids=["electricity", "sunspots"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(carousel.LSTM, torch.nn.LSTM), (carousel.GRU, torch.nn.GRU), (carousel.RNN, torch.nn.RNN)],
    ids=["lstm", "gru", "rnn"],
)
def test_our_layers_and_torchs_learn_alike(task, ours, theirs):
    first, last = trained(ours, task, 0), trained(ours, task, 100)
    assert last < 0.8 * first
    assert last == pytest.approx(trained(theirs, task, 100), rel=1e-5)
