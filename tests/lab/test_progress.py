"""A run that is cut off and goes on ends as one that was not, to the last bit, whatever it is made of."""

from functools import partial

import lightning as L
import pytest
import torch
from ddp import Letters
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

import carousel
from carousel import Regularization
from carousel.lab import progress
from carousel.lab.callbacks import GateStatistics, GradientFlow, StopWhenSolved
from carousel.lab.dashboard import TensorBoard
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule
from carousel.lab.tasks import Adding, Digits

STEPS = 24
plateau = partial(ReduceLROnPlateau, patience=0, threshold=10.0)
SETTINGS = {
    "fresh batches, zoneout, dropout": {"noise": Regularization(zoneout=0.2, recurrent=0.2), "dropout": 0.3},
    "a finite set, gradients of two batches": {"train_size": 40, "trainer": {"accumulate_grad_batches": 2}},
    "a stream": {"task": Letters()},
    "recorded, early stopping": {"task": Digits("rows"), "callbacks": [EarlyStopping("val/loss", patience=9)]},
    "a schedule": {"scheduler": partial(CosineAnnealingLR, T_max=STEPS)},
    "a schedule by the loss": {"scheduler": plateau},
    "validation after every batch": {"trainer": {"val_check_interval": 1}},
}


class CutOff(Exception):
    """As the end of a process, seen from within."""


class Cut(L.Callback):
    def __init__(self, step, where):
        self.step, self.where = step, where

    def _cut(self, trainer, *_):
        if trainer.global_step == self.step:
            raise CutOff

    def __getattribute__(self, name):
        return self._cut if name == object.__getattribute__(self, "where") else super().__getattribute__(name)


def make(folder, cut=None, *, task=None, noise=None, dropout=0.0, scheduler=None, train_size=None, **options):
    L.seed_everything(1, verbose=False)
    task = task or Adding(8)
    layer = carousel.LSTM(task.input_size, 5, batch_first=True, regularization=noise, backend="eager")
    model = SequenceModel(layer, task, head_dropout=dropout)
    module = SequenceModule(model, task, partial(torch.optim.Adam, lr=1e-2), scheduler)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=[TensorBoard(folder, name="", version="", sub_dir="lstm"), CSVLogger(folder, name="", version="")],
        callbacks=[
            GradientFlow(folder / "flow.csv", every_n_steps=6, num_sequences=4),
            GateStatistics(every_n_steps=8, num_sequences=4),
            StopWhenSolved(),
            ModelCheckpoint(folder / "checkpoints", "best", monitor="val/loss", enable_version_counter=False),
            progress.Progress(folder / "checkpoints", every_seconds=0),
            *options.get("callbacks", ()),
            *([cut] if cut else []),
        ],
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"val_check_interval": 4, "log_every_n_steps": 2} | options.get("trainer", {}),
    )
    return trainer, module, SequenceData(task, 4, 16, 3, train_size)


def result(folder, trainer, module):
    """All that is left of a run: weights, optimiser, best weights, what was measured, and TensorBoard's curves."""
    events = EventAccumulator(str(folder / "lstm"), size_guidance={"scalars": 0}).Reload()
    # In order, for the files of one second are read in that of their names, where 10 comes before 9.
    curves = {tag: sorted((e.step, e.value) for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    measured = [callback.values for callback in trainer.callbacks if hasattr(callback, "values")]
    files = [(folder / name).read_text() for name in ("flow.csv", "metrics.csv")]
    optimizer = trainer.optimizers[0].state_dict()
    return module.state_dict(), best, optimizer, curves, measured, files, trainer.global_step


def assert_equal(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for pair in zip(a, b, strict=True):
            assert_equal(*pair)
    else:
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize("name", SETTINGS)
def test_to_the_last_bit(tmp_path, name):
    options = SETTINGS[name]
    trainer, module, data = make(tmp_path / "whole", **options)
    trainer.fit(module, data)
    whole = result(tmp_path / "whole", trainer, module)
    assert whole[-1] > 20

    folder, begun = tmp_path / "cut", None
    for cut in (
        (5, "on_before_optimizer_step"),
        (12, "on_train_batch_end"),
        (12, "on_validation_end"),
        (21, "on_train_batch_start"),
    ):
        trainer, module, data = make(folder, Cut(*cut), **options)
        with pytest.raises(CutOff):
            trainer.fit(module, data, ckpt_path=begun, weights_only=True if begun else None)
        begun, written = progress.take_up(folder)
        for path in set(folder.rglob("events*")) - {folder / name for name in written}:
            path.unlink()  # as `folders.clear` does, by the record
        assert begun == folder / "checkpoints" / "progress.ckpt"
    trainer, module, data = make(folder, **options)
    trainer.fit(module, data, ckpt_path=begun, weights_only=True)
    assert_equal(result(folder, trainer, module), whole)


def test_a_broken_checkpoint_is_set_aside_for_the_one_before(tmp_path):
    trainer, module, data = make(tmp_path, Cut(9, "on_train_batch_end"))
    with pytest.raises(CutOff):
        trainer.fit(module, data)
    folder = tmp_path / "checkpoints"
    last, before = (torch.load(folder / name, weights_only=True)["global_step"] for name in progress.FILES)
    assert (last, before) == (8, 7)

    broken = folder / "progress.ckpt"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="progress.ckpt.unreadable does not serve to go on from: "):
        begun, _ = progress.take_up(tmp_path)
    assert begun == folder / "progress.before.ckpt"
    assert (folder / "progress.ckpt.unreadable").exists()

    (tmp_path / "flow.csv").write_text("")  # of which more had been written
    with pytest.warns(UserWarning, match="flow.csv is shorter than it was"):
        assert progress.take_up(tmp_path) == (None, {})


@pytest.mark.parametrize("value", [-1, "often", True, float("nan")])
def test_what_is_no_time_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="every_seconds must be a number of at least 0, got"):
        progress.Progress(tmp_path, value)
