"""Ours and torch's layers train alike inside the LightningModule."""

from functools import partial

import lightning as L
import pytest
import torch
from torch import nn

import carousel
from carousel.lab.data import SequenceData
from carousel.lab.module import SequenceModule
from carousel.lab.tasks import Adding, TemporalOrder


class Losses(L.Callback):
    def __init__(self):
        self.seen, self.norms, self.probe = [], [], []

    def look(self, trainer, module, *_):
        with torch.no_grad():
            self.probe.append(module.loss(next(iter(trainer.datamodule.val_dataloader()))).item())

    on_train_start = on_train_end = look

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.seen.append(outputs["loss"].item())
        self.norms.append(trainer.callback_metrics["grad_norm/total"].item())


def train(layer_type, task, steps=30, seed=0, clip=1.0, **options):
    L.seed_everything(seed, verbose=False)
    layer = layer_type(task.input_size, 16, batch_first=True, **options)
    module = SequenceModule(layer, task, partial(torch.optim.Adam, lr=1e-2))
    losses = Losses()
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
    )
    trainer.fit(module, SequenceData(task, 16, 64, 0))
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
    assert max(train(carousel.LSTM, Adding(8), steps=5, clip=1e-4).norms) > 1e-2
