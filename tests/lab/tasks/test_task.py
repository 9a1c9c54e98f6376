"""The contract, on every task that has a file in conf/task: yours as well, as soon as it has one."""

import functools
import itertools

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from torch import nn

import carousel
from carousel.lab.app import conf_dir
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import Batch, Generated, Recorded, Stream, Task, real

NAMES = sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))
SPLITS = ("train", "val", "test")


@functools.cache
def made(name):
    """The task with the options of its file, or a test that is skipped and says what is missing."""
    node = OmegaConf.load(conf_dir() / "task" / f"{name}.yaml")
    if missing := OmegaConf.missing_keys(node):
        pytest.skip(f"needs {', '.join(f'task.{key}=' for key in sorted(missing))}")
    try:
        task = instantiate(node)
        batches(task, "train", 1)
    except (InstantiationException, OSError, ImportError, ValueError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, OSError | ImportError) or "install" in str(cause) or "task.path" in str(cause):
            pytest.skip(str(cause))
        raise
    return task


def batches(task, split, num, batch_size=4, seed=0, **options):
    """The first few batches, in float64."""
    data = SequenceData(task, batch_size, batch_size, seed, **options)
    return [double(batch) for batch in itertools.islice(getattr(data, f"{split}_dataloader")(), num)]


def double(batch):
    return Batch(*(part.double() if torch.is_tensor(part) and part.is_floating_point() else part for part in batch))


def module(task, layer_type=carousel.LSTM, **options):
    torch.manual_seed(0)
    size = 8 if task.symbols and task.input_size > 128 else None
    layer = layer_type(size or task.input_size, 6, batch_first=True, dtype=torch.float64, **options)
    return SequenceModule(SequenceModel(layer, task, size), task)


def same(a, b):
    return all(torch.equal(s, t) if torch.is_tensor(s) else s == t for s, t in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_batches_have_the_shapes_that_the_task_says(name):
    task = made(name)
    assert isinstance(task, Task)
    assert task.longest() >= 1
    for split in SPLITS:
        for batch in batches(task, split, 2):
            x, target, lengths, goes_on = batch
            if task.symbols:
                assert x.dtype == torch.long
                assert x.dim() == 2
                assert x.min() >= 0
                assert x.max() < task.input_size
            else:
                assert x.is_floating_point()
                assert x.shape[2:] == (task.input_size,)
                assert x.isfinite().all()
            assert target.shape[: 1 + task.every_step] == x.shape[: 1 + task.every_step]
            assert target.is_floating_point() or target.dtype == torch.long
            assert isinstance(task, Stream) or not goes_on
            if lengths is not None:
                assert lengths.min() >= 1
                assert lengths.max() == x.size(1)
            answers = real(task, batch, torch.zeros(*x.shape[: 1 + task.every_step], task.output_size))[1]
            assert len(answers)
            assert answers.isfinite().all() if answers.is_floating_point() else answers.min() >= 0


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_needs_no_data(name, monkeypatch, tmp_path):
    task = made(name)
    trained = module(task).eval()
    torch.save({"state_dict": trained.state_dict(), "task": task.fitted()}, tmp_path / "saved")
    steps = min(task.longest(), 200)
    raw = torch.rand(2, steps, 1 if task.symbols else task.input_size, generator=torch.Generator().manual_seed(0))
    raw = (raw[..., 0] * task.input_size).long() if task.symbols else raw * 10

    def predicted(module):
        read = module.task.read(raw)
        answers = module(read if task.symbols else read.double()).detach()
        return module.task.answer(answers.flatten(0, 1) if task.every_step else answers)

    expected = predicted(trained)
    for source in {"sample", "split", "recorded", "series", "tokens", "values"} & set(dir(task)):
        monkeypatch.setattr(type(task), source, lambda *_: pytest.fail("the data are not there"))
    elsewhere = instantiate(OmegaConf.load(conf_dir() / "task" / f"{name}.yaml"))
    saved = torch.load(tmp_path / "saved", weights_only=True)
    if saved["task"] is not None:
        elsewhere.recall(saved["task"])
    again = module(elsewhere).eval()
    again.load_state_dict(saved["state_dict"])
    found = predicted(again)
    assert torch.equal(found, expected) if torch.is_tensor(found) else found == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides(name):
    task = made(name)
    for split in SPLITS:
        assert all(itertools.starmap(same, zip(*(batches(task, split, 2) for _ in range(2)), strict=True)))
    first, other = (batches(task, "train", 1, batch_size=16, seed=seed)[0] for seed in range(2))
    assert not same(first, other)


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_not_the_same(name):
    task = made(name)
    if isinstance(task, Recorded):
        seen = {}
        for split in SPLITS:
            x, _, lengths, _ = task.split(split)
            ends = [x.size(1)] * len(x) if lengths is None else lengths.tolist()
            seen[split] = {row[:end].numpy().tobytes() for row, end in zip(x, ends, strict=True)}
        assert all(seen[a].isdisjoint(seen[b]) for a, b in itertools.combinations(SPLITS, 2))
        return
    first = [batches(task, split, 1, batch_size=16)[0] for split in SPLITS]
    assert not any(same(a, b) for a, b in itertools.combinations(first, 2))


@pytest.mark.parametrize("name", NAMES)
def test_baselines_have_scores(name):
    task = made(name)
    baselines = task.baselines()
    assert baselines
    data = SequenceData(task, 4, 4000 if isinstance(task, Generated) else None)
    evaluated = list(itertools.islice(data.val_dataloader(), 4))
    for k, (baseline, predict) in enumerate(baselines.items()):
        found = scores(task, predict, evaluated)
        assert found.keys() == {"loss", *task.metrics()}
        assert all(torch.tensor(value).isfinite() for value in found.values()), (baseline, found)
        if k == 0 and task.baseline_loss is not None:
            assert found["loss"] == pytest.approx(task.baseline_loss, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ours_and_torchs_lstm_learn_the_same(name, bidirectional):
    task = made(name)
    if bidirectional and task.looks_ahead:
        with pytest.raises(ValueError, match="bidirectional"):
            module(task, bidirectional=True)
        return
    losses = []
    for layer_type in (carousel.LSTM, nn.LSTM):
        learner = module(task, layer_type, bidirectional=bidirectional)
        optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
        losses.append([])
        for batch in batches(task, "train", 4):
            loss = learner.loss(batch, "train")
            losses[-1].append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in learner.parameters())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(more=st.integers(1, 7), seed=st.integers(0, 2**16), reverse=st.booleans())
def test_padding_changes_nothing(name, more, seed, reverse):
    task = made(name)
    if isinstance(task, Stream):
        pytest.skip("a stream is not padded")
    (batch,) = batches(task, "train", 1)
    steps = batch.input.size(1)
    lengths = torch.full((len(batch.input),), steps) if batch.lengths is None else batch.lengths
    generator = torch.Generator().manual_seed(seed)

    def padded(t, high):
        shape = (len(t), steps + more, *t.shape[2:])
        anything = torch.empty(shape, dtype=t.dtype).random_(high, generator=generator)
        anything[:, :steps].copy_(torch.where(inside(t), t, anything[:, :steps]))
        return anything

    def inside(t):
        mask = torch.arange(steps) < lengths[:, None]
        return mask[(...,) + (None,) * (t.dim() - 2)]

    target = padded(batch.target, task.output_size) if task.every_step else batch.target
    other = Batch(padded(batch.input, task.input_size), target, lengths)
    learner = module(task, bidirectional=reverse and not task.looks_ahead)
    seen = []
    for one in (batch, other):
        learner.zero_grad()
        learner.loss(one).backward()
        prediction, answers = real(task, one, learner.predict(one))
        metrics = task.metrics()
        for metric in metrics.values():
            metric.update(prediction, answers)
        seen.append((prediction, [p.grad.clone() for p in learner.parameters()],
                     [metric.compute() for metric in metrics.values()]))  # fmt: skip
    torch.testing.assert_close(*seen, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_training_set_is_part_of_a_larger_one(name):
    task = made(name)
    if isinstance(task, Stream):
        pytest.skip("train_size of a stream is its steps")
    small, large = ({tuple(row[:3].flatten().tolist()) for batch in batches(task, "train", 5, train_size=size)
                     for row in batch.input} for size in (4, 20))  # fmt: skip
    assert small <= large


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_a_figure_or_a_text(name):
    task = made(name)
    learner = module(task)
    shown = task.examples(torch.no_grad()(learner.predict))
    assert all(isinstance(value, Figure | str) for value in shown.values())
