"""Utterances of different lengths: the data, the baselines, and that padding has no part in anything."""

import itertools
from functools import partial

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel.lab.callbacks import GateStatistics, GradientFlow, GradientPaths, LargestLyapunovExponent
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import Batch, JapaneseVowels
from carousel.lab.tasks.real.japanese_vowels import warped

TASK = JapaneseVowels()
PAIRS = [(carousel.LSTM, nn.LSTM), (carousel.GRU, nn.GRU), (carousel.RNN, nn.RNN)]


def module(kind, seed=0, **options):
    torch.manual_seed(seed)
    options = {"dtype": torch.float64} | options
    layer = kind(TASK.input_size, 8, batch_first=True, **options)
    return SequenceModule(SequenceModel(layer, TASK), TASK, partial(torch.optim.Adam, lr=1e-2))


def test_the_utterances_are_the_published_ones():
    recorded = TASK.recorded()
    first = recorded["train"].input[0, :4, :2]
    assert first.T.tolist() == [[1.8609, 1.8917, 1.9392, 1.7175], [-0.2074, -0.1932, -0.2397, -0.2186]]
    assert {name: batch.target.bincount().tolist() for name, batch in recorded.items()} == {
        "train": [24] * 9,
        "val": [6] * 9,
        "test": [31, 35, 88, 44, 29, 24, 40, 50, 29],
    }
    lengths = torch.cat([batch.lengths for batch in recorded.values()])
    assert (len(lengths), lengths.min(), lengths.max(), lengths.sum()) == (640, 7, 29, 9961)
    assert recorded["train"].lengths[0] == 20


def test_no_utterance_is_in_two_splits():
    seen = [row[:end].numpy().tobytes() for name in ("train", "val", "test")
            for row, end in zip(*TASK.split(name)[::2], strict=False)]  # fmt: skip
    assert len(set(seen)) == len(seen) == 640


def test_features_are_scaled_by_training_data_alone():
    train, test = TASK.split("train"), TASK.split("test")
    steps = torch.cat([row[:end] for row, end in zip(train.input, train.lengths, strict=True)])
    torch.testing.assert_close(steps.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(steps.std(0, correction=0), torch.ones(12))
    assert test.input[0, : test.lengths[0]].mean().abs() > 0.01
    torch.testing.assert_close(TASK.read(TASK.recorded()["test"].input), test.input)


def test_what_the_baselines_score():
    data = SequenceData(TASK, 32)
    found = {name: scores(TASK, predict, data.test_dataloader()) for name, predict in TASK.baselines().items()}
    right = {name: round(370 * score["accuracy"]) for name, score in found.items()}
    assert right == {"most frequent class": 31, "nearest mean": 343, "nearest by time warping": 352}
    assert found["most frequent class"]["loss"] == pytest.approx(torch.tensor(9.0).log().item(), rel=1e-5)
    assert found["nearest by time warping"]["loss"] == pytest.approx(0.298, abs=1e-3)


def test_time_warping_by_hand_and_by_the_plain_recursion():
    a = torch.tensor([0.0, 1.0, 2.0, 99.0])[None, :, None]
    b = torch.tensor([[0.0, 0.0, 1.0, 2.0], [0.0, 3.0, 99.0, 99.0]])[..., None]
    one, two = Batch(a, torch.zeros(1), torch.tensor([3])), Batch(b, torch.zeros(2), torch.tensor([4, 2]))
    # The first stands still once and fits; in the second 0 meets 0, then 1 meets 0 and 2 meets 3.
    assert warped(one, two).tolist() == [[0, 2]]

    def distance(x, y):
        if not len(x) or not len(y):
            return 0.0 if len(x) == len(y) else torch.inf
        before = min(distance(x[:-1], y), distance(x, y[:-1]), distance(x[:-1], y[:-1]))
        return before + float((x[-1] - y[-1]).square().sum())

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 5, 3, generator=generator) for n in (3, 4))
    ends = torch.tensor([5, 2, 3]), torch.tensor([1, 5, 4, 2])
    found = warped(*(Batch(t, torch.zeros(len(t)), n) for t, n in ((x, ends[0]), (y, ends[1]))))
    expected = [[distance(p[:i], q[:j]) for q, j in zip(y, ends[1], strict=True)]
                for p, i in zip(x, ends[0], strict=True)]  # fmt: skip
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "bidirectional"), [(*PAIRS[0], False), (*PAIRS[0], True), (*PAIRS[1], True), (*PAIRS[2], True)]
)
def test_ours_and_torchs_reach_the_same_loss(ours, theirs, bidirectional):
    """Ours is told the lengths, torch's is given packed sequences."""
    losses = []
    for kind in (ours, theirs):
        learner = module(kind, bidirectional=bidirectional)
        optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
        for batch in itertools.islice(SequenceData(TASK, 16).train_dataloader(), 100):
            optimizer.zero_grad()
            loss = learner.loss(batch)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] < 1  # from 2.2


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from([kind for pair in PAIRS for kind in pair]),
    more=st.integers(0, 9),
    fill=st.sampled_from([torch.nan, torch.inf, 1e300, -7.0]),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
)
def test_padding_of_any_kind_and_amount_changes_nothing(kind, more, fill, layers, bidirectional):
    batch = next(iter(SequenceData(TASK, 8).train_dataloader()))
    x = batch.input.double()
    other = torch.full((8, x.size(1) + more, 12), fill, dtype=torch.float64)
    for row, end in enumerate(batch.lengths.tolist()):
        other[row, :end] = x[row, :end]
    learner = module(kind, num_layers=layers, bidirectional=bidirectional)
    seen = []
    for padded in (x, other):
        metric = TASK.metrics()["accuracy"]
        prediction = learner(padded, batch.lengths)
        metric.update(prediction, batch.target)
        loss = TASK.loss(prediction, batch.target)
        seen.append((loss, torch.autograd.grad(loss, list(learner.parameters())), metric.compute()))
    torch.testing.assert_close(*seen, rtol=1e-12, atol=1e-14)
    alone = torch.cat([learner(x[row : row + 1, :end]) for row, end in enumerate(batch.lengths.tolist())])
    torch.testing.assert_close(prediction, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [carousel.LSTM, nn.LSTM])
def test_the_measures_take_utterances_of_different_lengths(tmp_path, kind):
    """Two layers, both directions."""
    probes = [GateStatistics(None, 8), GradientPaths(None, 8), LargestLyapunovExponent(None, 8)]
    flow = GradientFlow(tmp_path / "flow.csv", None, 8)
    learner = module(kind, num_layers=2, bidirectional=True, dtype=torch.float32)
    trainer = L.Trainer(
        accelerator="cpu", max_steps=3, limit_train_batches=3, logger=False, callbacks=[flow, *probes],
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(learner, SequenceData(TASK, 16))
    places = {(layer, direction) for layer in (0, 1) for direction in ("forward", "reverse")}
    for probe in (flow, *probes):
        assert set(probe.values) == {0, 3}
        for rows in probe.values.values():
            assert {(row.layer, row.direction) for row in rows} >= places - {(1, "reverse")}
    # Of the eight longest, the end, as long as the shortest of them.
    steps = int(TASK.split("val").lengths.sort(descending=True).values[7])
    assert len((tmp_path / "flow.csv").read_text().splitlines()) == 1 + 2 * 4 * 2 * steps


def test_the_confusion_matrix_counts_the_test_utterances():
    def third(batch):
        """Takes every second speaker for the third, and knows the others."""
        known = batch.target
        return nn.functional.one_hot(torch.where(known % 2 == 1, 2, known), 9).float()

    target = TASK.split("test").target
    figure = TASK.examples(third)["confusion"]
    axes = figure.axes[0]
    cells = {tuple(map(int, text.get_position()))[::-1]: int(text.get_text()) for text in axes.texts}
    count = target.bincount().tolist()
    expected = {(k, k): count[k] for k in range(0, 9, 2)} | {(k, 2): count[k] for k in range(1, 9, 2)}
    assert cells == expected
    assert axes.get_xlabel() == "predicted speaker"
    assert axes.get_ylabel() == "true speaker"
    assert "217 of 370 right" in axes.get_title()
    assert TASK.answer(torch.eye(9)[[0, 8]]) == ["1", "9"]
