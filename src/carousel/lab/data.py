"""One datamodule for every task."""

import functools

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .tasks import Task

STREAMS = ("train", "val", "test", "order")  # of random numbers: for each split, and for the order of each epoch


def generator(seed: int, stream: str, i: int) -> torch.Generator:
    entropy = np.random.SeedSequence((seed, STREAMS.index(stream), i))
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


class Batches(IterableDataset):
    """The batches of one split: number i depends on (seed, split, i) alone, so every model sees the same ones.

    Args:
        length: how many; None is a stream without end, which goes on where it was left when it is read again.
    """

    def __init__(self, task: Task, split: str, batch_size: int, seed: int, length: int | None) -> None:
        self.task, self.split, self.batch_size, self.seed, self.length = task, split, batch_size, seed, length
        self.taken = 0  # from a stream, by this process

    def __len__(self) -> int:
        """Known even of a stream: Lightning would else take one batch ahead, and lose it at the end of each epoch."""
        return 2**62 if self.length is None else self.length

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        return self.task.sample(self.batch_size, generator(self.seed, self.split, i))

    def __iter__(self):
        """All of them; of a stream, in one of several processes, its share."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.length is not None:
            yield from map(self.batch, range(self.length))
            return
        while True:
            self.taken += 1
            yield self.batch((self.taken - 1) * world + rank)


class Epochs(Batches):
    """Batches without end from `size` training sequences, which are visited in epochs, each in an order of its own.

    Sequence k depends on (seed, k) alone, so a smaller set is part of a larger one; the order on (seed, epoch). What
    does not fill a batch sits the epoch out; a set smaller than `batch_size` is one batch.
    """

    def __init__(self, task: Task, batch_size: int, seed: int, size: int) -> None:
        super().__init__(task, "train", min(batch_size, size), seed, None)
        self.size = size

    @functools.cached_property
    def sequences(self) -> tuple[Tensor, Tensor]:
        single = Batches(self.task, "train", 1, self.seed, self.size)
        x, target = zip(*map(single.batch, range(self.size)), strict=True)
        return torch.cat(x), torch.cat(target)  # (size, T, input_size), (size, ...)

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        epoch, k = divmod(i, self.size // self.batch_size)
        order = torch.randperm(self.size, generator=generator(self.seed, "order", epoch))
        rows = order[k * self.batch_size : (k + 1) * self.batch_size]
        return tuple(part[rows] for part in self.sequences)


class SequenceData(L.LightningDataModule):
    """Training sequences, fresh ones without end or a finite set, and fixed ones for validation and test.

    Args:
        task: where the sequences come from.
        batch_size: training sequences per step.
        eval_size: sequences for validation, and as many for test.
        data_seed: of the data, in streams of their own for training, validation and test; the model draws from none.
        train_size: training sequences in all, visited again and again; None: fresh ones without end.

    Raises:
        ValueError: a size is under 1, or the seed negative.
    """

    def __init__(
        self, task: Task, batch_size: int, eval_size: int, data_seed: int, train_size: int | None = None
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_size", eval_size, 1),
            ("data_seed", data_seed, 0),
            ("train_size, unless null,", 1 if train_size is None else train_size, 1),
        ):
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")
        self.task, self.batch_size, self.eval_size, self.data_seed = task, batch_size, eval_size, data_seed
        self.train_size = train_size

    def train_dataloader(self) -> DataLoader:
        if self.train_size is None:
            batches = Batches(self.task, "train", self.batch_size, self.data_seed, None)
        else:
            batches = Epochs(self.task, self.batch_size, self.data_seed, self.train_size)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Batches(self.task, "val", self.eval_size, self.data_seed, 1), batch_size=None)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(Batches(self.task, "test", self.eval_size, self.data_seed, 1), batch_size=None)
