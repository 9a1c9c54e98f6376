"""Run by test_ddp.py in two processes under Lightning's strategy=ddp, against one process: every cell at once, and a
stream with its state carried over; and a run that is cut off, against one that is not."""

import copy
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import lightning as L
import torch
from agreement import CATALOGUE, FORMS, fill
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import carousel
from carousel.lab import data, progress
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import Classification, Stream

TRITON = find_spec("triton") is not None
SEQUENCES = torch.randn(16, 5, 2, generator=torch.Generator().manual_seed(1))


class EveryCell(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        cells = {name: CATALOGUE[name] for name in FORMS}
        cells |= {"triton": (carousel.GRUCell, {"backend": "triton"})} if TRITON else {}
        self.layers = nn.ModuleDict(
            {name: fill(carousel.Recurrent(c, 2, 3, bidirectional=True, **o)) for name, (c, o) in cells.items()}
        )

    def loss(self, x):
        return sum(layer(x.transpose(0, 1))[0].pow(2).mean() for layer in self.layers.values())

    def training_step(self, batch, _):
        return self.loss(batch[0])

    def train_dataloader(self):
        data = TensorDataset(SEQUENCES)
        return DataLoader(data, batch_size=4, sampler=DistributedSampler(data, shuffle=False))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Letters(Stream, Classification):
    """The next of seven letters, each the sum of the two before and some noise."""

    symbols = True
    input_size = output_size = 7
    chunk = 5

    def series(self, split):
        num = {"train": 400, "val": 101, "test": 50}[split]  # of the second, rows of 13 and 10 steps
        noise = torch.randint(2, (num + 1,), generator=torch.Generator().manual_seed(num))
        letters = noise.cumsum(0).cumsum(0) % 7
        return letters[:-1], letters[1:]


class Remembers(SequenceModule):
    """Which batches it was trained on."""

    def on_fit_start(self):
        super().on_fit_start()
        self.batches = []

    def training_step(self, batch, k):
        self.batches.append(batch)
        return super().training_step(batch, k)


def two_processes(**options):
    return L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def a_stream():
    torch.manual_seed(0)
    task = Letters()
    model = SequenceModel(carousel.LSTM(7, 6, batch_first=True, dtype=torch.float64), task)
    module = Remembers(copy.deepcopy(model), task, partial(torch.optim.SGD, lr=0.5))
    trainer = two_processes(max_steps=25, limit_train_batches=25, val_check_interval=25, check_val_every_n_epoch=None)
    trainer.fit(module, SequenceData(task, 4, eval_size=8))
    said = {name: float(value) for name, value in trainer.callback_metrics.items()}

    rank, data.process = trainer.global_rank, lambda: (0, 1)  # from here on as alone
    alone = SequenceModule(model, task)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.5)
    batches = iter(SequenceData(task, 8).train_dataloader())  # nine a time through: 25 begin anew twice
    for mine, batch in zip(module.batches, batches, strict=False):
        assert mine.goes_on == batch.goes_on
        for own, whole in zip(mine[:2], batch[:2], strict=True):
            assert torch.equal(own, whole[4 * rank : 4 * rank + 4])
        optimizer.zero_grad()
        loss = alone.loss(batch, "train")
        loss.backward()
        optimizer.step()
    assert len(module.batches) == 25
    for a, b in zip(module.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.data, b.data, rtol=1e-9, atol=1e-12)
    assert abs(said["train/loss"] - loss.item()) < 1e-6  # logged in float32

    counted = data.once(task.series("val"), 5, 8)
    assert sum(int((batch.target >= 0).sum()) for batch in counted) == 101
    found = scores(task, alone.predictor(), counted)
    for name, value in found.items():
        assert abs(said[f"val/{name}"] - value) < 1e-6, name
    print(f"rank {rank}: the stream agrees", flush=True)


class NoiseOfItsOwn(L.Callback):
    def on_fit_start(self, trainer, module):
        torch.manual_seed(trainer.global_rank)


def a_run_that_is_cut_off(folder):
    from test_progress import Cut, CutOff, assert_equal, make, result

    def begin(name, *cut):
        options = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False, "log_every_n_steps": 1}
        noise = carousel.Regularization(zoneout=0.2)
        own = [NoiseOfItsOwn()]
        return make(folder / name, *cut, task=Letters(), noise=noise, dropout=0.3, callbacks=own, trainer=options)

    trainer, module, data = begin("whole")
    trainer.fit(module, data)
    whole = result(folder / "whole", trainer, module)
    own = module._states["train"]

    trainer, module, data = begin("cut", Cut(13, "on_before_optimizer_step"))
    try:
        trainer.fit(module, data)
    except CutOff:
        trainer.strategy.barrier()
    if trainer.is_global_zero:
        _, written = progress.take_up(folder / "cut")
        for path in set((folder / "cut").glob("events*")) - {folder / "cut" / name for name in written}:
            path.unlink()
    trainer.strategy.barrier()
    trainer, module, data = begin("cut")
    trainer.fit(module, data, ckpt_path=progress.under_way(folder / "cut")[0], weights_only=True)
    assert_equal(module._states["train"], own)
    if trainer.is_global_zero:
        assert_equal(result(folder / "cut", trainer, module), whole)
    print(f"rank {trainer.global_rank}: cut off, it ends the same", flush=True)


class OneGoesAstray(SequenceModule):
    """In one of the processes the loss is no number, from a training step on."""

    def loss(self, batch, split=None):
        return super().loss(batch, split) * (float("nan") if self.global_rank and self.global_step >= 2 else 1.0)


def a_divergence():
    task = Letters()
    model = SequenceModel(carousel.LSTM(7, 6, batch_first=True), task)
    module = OneGoesAstray(model, task, partial(torch.optim.SGD, lr=0.5))
    trainer = two_processes(max_steps=20, log_every_n_steps=4, limit_val_batches=0)
    trainer.fit(module, SequenceData(task, 4, eval_size=8))
    assert trainer.global_step == 4
    assert module.diverged == "train/loss is nan at training step 3"
    print(f"rank {trainer.global_rank}: both stop", flush=True)


def every_cell():
    module = EveryCell()
    trainer = two_processes(max_epochs=2)
    trainer.fit(module)
    assert trainer.world_size == 2
    assert trainer.global_step == 4

    alone = EveryCell()
    optimizer = alone.configure_optimizers()
    for _ in range(2):
        for batch in SEQUENCES.split(8):  # the sampler deals the sequences out in turns, 4 to each process
            optimizer.zero_grad()
            alone.loss(batch).backward()
            optimizer.step()
    for (name, a), b in zip(module.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.data, b.data, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    print(f"rank {trainer.global_rank}: {len(module.layers)} layers agree", flush=True)


def main():
    every_cell()
    a_run_that_is_cut_off(Path(sys.argv[1]))
    a_stream()
    a_divergence()
    torch.distributed.destroy_process_group()  # or Gloo's threads may abort a process that exits


if __name__ == "__main__":
    sys.exit(main())
