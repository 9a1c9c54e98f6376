"""Ours and torch's layers train alike inside the LightningModule."""

import itertools
import math
import re
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn

import carousel
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule
from carousel.lab.tasks import Adding, TemporalOrder


class Astray(SequenceModule):
    """From some training step on its loss is a multiple of what it should be."""

    begin, factor = 3, math.nan

    def loss(self, batch, split=None):
        loss = super().loss(batch, split)
        return loss * self.factor if split and self.global_step >= self.begin else loss


class Losses(L.Callback):
    def __init__(self):
        self.seen, self.norms, self.probe, self.told = [], [], [], []

    def look(self, trainer, module, *_):
        with torch.no_grad():
            self.probe.append(module.loss(next(iter(trainer.datamodule.val_dataloader()))).item())

    on_train_start = on_train_end = look

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.seen.append(outputs["loss"].item())
        self.norms.append(trainer.callback_metrics.get("grad_norm/total", torch.tensor(math.nan)).item())
        self.told.append(trainer.callback_metrics.get("train/loss", torch.tensor(math.nan)).item())


def train(layer_type, task, steps=30, seed=0, clip=1.0, kind=SequenceModule, monitor=None, **options):
    L.seed_everything(seed, verbose=False)
    layer = layer_type(task.input_size, 16, batch_first=True)
    module = kind(SequenceModel(layer, task), task, partial(torch.optim.Adam, lr=1e-2))
    losses = Losses()
    losses.monitor = monitor
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        callbacks=[losses],
        gradient_clip_val=clip,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, SequenceData(task, 16, 64, 0))
    losses.error = module.diverged
    return losses


@pytest.mark.parametrize("task", [Adding(12), TemporalOrder(12)])
@pytest.mark.parametrize(("ours", "theirs"), [(carousel.LSTM, nn.LSTM), (carousel.GRU, nn.GRU), (carousel.RNN, nn.RNN)])
def test_ours_and_torchs_train_to_the_same_loss_from_the_same_seed(ours, theirs, task):
    mine, reference = train(ours, task), train(theirs, task)
    assert mine.seen == pytest.approx(reference.seen, rel=1e-3)
    before, after = mine.probe
    assert abs(after - before) > 0.01  # the same sequences, so what differs has been learnt


def test_the_same_seed_repeats_every_loss_and_another_does_not():
    a, b, c = (train(carousel.LSTM, Adding(8), seed=seed).seen for seed in (0, 0, 1))
    assert a == b
    assert a != c


def test_the_gradient_norm_is_taken_before_clipping():
    assert max(train(carousel.LSTM, Adding(8), steps=5, clip=1e-4, log_every_n_steps=1).norms) > 1e-2


def test_a_training_step_logs_only_what_is_read():
    def steps(**options):
        losses = train(carousel.LSTM, Adding(8), steps=10, log_every_n_steps=4, **options)
        return [i + 1 for i, (own, told) in enumerate(zip(losses.seen, losses.told, strict=True)) if own == told]

    assert steps() == [4, 8, 10]  # the loggers', and the last one
    assert steps(val_check_interval=3) == [3, 4, 6, 8, 9, 10]
    assert steps(monitor="train/loss") == list(range(1, 11))


@pytest.mark.parametrize("batches", [1, 2])
def test_loggers_get_what_is_measured_before_an_update_with_the_number_of_those_made(batches):
    class Told(DummyLogger):
        def log_metrics(self, metrics, step=None):
            rows.append((step, metrics))

    rows = []
    decay = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    layer = carousel.LSTM(2, 4, batch_first=True)
    module = SequenceModule(SequenceModel(layer, Adding(8)), Adding(8), partial(torch.optim.SGD, lr=1.0), decay)
    losses = Losses()
    options = {"max_steps": 6, "log_every_n_steps": 2, "limit_val_batches": 0, "accumulate_grad_batches": batches}
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", logger=Told(), callbacks=[losses], **options, **quiet)
    trainer.fit(module, SequenceData(Adding(8), 16, 64, 0))
    told = {step: values for step, values in rows if "train/loss" in values}
    assert list(told) == [1, 3, 5]
    for step, values in told.items():
        last = (step + 1) * batches - 1  # the batch after which it was updated
        assert values["train/loss"] == pytest.approx(batches * losses.seen[last])
        assert values["grad_norm/total"] == pytest.approx(losses.norms[last])
        assert values["lr"] == 0.5**step


@pytest.mark.parametrize(("factor", "said"), [(math.nan, "nan"), (math.inf, "inf"), (1e12, r".+e\+1\d"), (2, None)])
def test_a_run_is_stopped_at_the_training_step_at_which_it_diverges(monkeypatch, factor, said):
    monkeypatch.setattr(Astray, "factor", factor)
    losses = train(nn.RNN, Adding(8), steps=10, kind=Astray)
    assert len(losses.seen) == (4 if said else 10)
    if said:
        assert re.fullmatch(f"train/loss is {said} at training step 3", losses.error)
    else:
        assert losses.error is None


def test_where_a_look_at_the_loss_is_to_wait_for_it_only_what_is_logged_is_looked_at(monkeypatch):
    monkeypatch.setattr(Astray, "factor", math.nan)
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    losses = train(nn.RNN, Adding(8), steps=10, kind=Astray, log_every_n_steps=4)
    assert losses.error == "train/loss is nan at training step 3"
    monkeypatch.setattr(Astray, "begin", 4)
    losses = train(nn.RNN, Adding(8), steps=10, kind=Astray, log_every_n_steps=4)
    assert losses.error == "train/loss is nan at training step 7"


@pytest.mark.parametrize("baseline", [1 / 6, None, 0.0, math.nan])
def test_a_loss_is_measured_by_the_baselines(baseline):
    module = SequenceModule(nn.Identity(), Adding(8))
    module.baseline_losses = {} if baseline is None else {"mean": baseline}
    assert not any(map(module.ran_away, (0.1, -0.1, 1e3)))
    assert all(map(module.ran_away, (1e9, math.inf, -math.inf, math.nan)))


@pytest.mark.parametrize("limits", [{"accumulate_grad_batches": 4}, {"limit_train_batches": 4}])
def test_every_batch_of_a_stream_is_new(limits):
    """Under accumulation and from one epoch to the next; and none is passed over."""
    seen = []

    class Counts(SequenceModule):
        def training_step(self, batch, k):
            seen.append(batch.input)
            return super().training_step(batch, k)

    module = Counts(
        SequenceModel(carousel.RNN(2, 4, batch_first=True), Adding(8)), Adding(8), partial(torch.optim.SGD, lr=0.1)
    )
    options = {"max_steps": 6, "limit_train_batches": 6} | limits
    trainer = L.Trainer(
        accelerator="cpu", logger=False, limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    data = SequenceData(Adding(8), 4, 4, 0)
    trainer.fit(module, data)
    assert len(seen) >= 6 * options.get("accumulate_grad_batches", 1) * 0.5
    expected = itertools.islice(SequenceData(Adding(8), 4, 4, 0).train_dataloader(), len(seen))
    assert all(torch.equal(x, y) for x, (y, *_) in zip(seen, expected, strict=True))


LAYERS = [
    lambda **o: carousel.LSTM(2, 6, proj_size=3, **o),
    lambda **o: carousel.Recurrent(carousel.GRUCell, 2, [6, 5], 2, **o),
    lambda **o: nn.LSTM(2, 6, proj_size=3, **o),
    lambda **o: nn.GRU(2, 6, 2, **o),
]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("make", LAYERS)
def test_the_readout_takes_each_direction_where_it_has_read_everything(make, bidirectional):
    layer = make(batch_first=True, bidirectional=bidirectional)
    module = SequenceModule(SequenceModel(layer, Adding(8)), Adding(8), partial(torch.optim.SGD, lr=0.1))
    x = torch.randn(3, 8, 2)
    state = layer(x)[1]
    h = state[0] if isinstance(layer, nn.LSTM | carousel.LSTM) else state
    ends = [t for part in h for t in part] if isinstance(h, list | tuple) else list(h)
    last = torch.cat(ends[-1 - bidirectional :], -1)
    torch.testing.assert_close(module(x), module.model.head(last))


@pytest.mark.parametrize("kind", [carousel.LSTM, nn.LSTM])
def test_a_layer_of_another_dtype_gets_its_inputs_so(kind):
    layer = kind(2, 4, batch_first=True, dtype=torch.float64)
    module = SequenceModule(SequenceModel(layer, Adding(8)), Adding(8), partial(torch.optim.SGD, lr=0.1))
    loss = module.loss(Adding(8).sample(3, torch.Generator().manual_seed(0)))
    loss.backward()
    assert loss.dtype == torch.float64
