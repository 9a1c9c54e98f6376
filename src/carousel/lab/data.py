"""One datamodule for every task."""

import itertools

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .tasks import Task

SPLITS = ("train", "val", "test")


class Batches(IterableDataset):
    """The batches of one split: number i depends on (seed, split, i) alone, so every model sees the same ones.

    Args:
        length: how many; None is a stream without end.
    """

    def __init__(self, task: Task, split: str, batch_size: int, seed: int, length: int | None) -> None:
        self.task, self.split, self.batch_size, self.seed, self.length = task, split, batch_size, seed, length

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        entropy = np.random.SeedSequence((self.seed, SPLITS.index(self.split), i))
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
        return self.task.sample(self.batch_size, generator)

    def __iter__(self):
        """All of them, or, in one of several processes, its share."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        indices = itertools.count() if self.length is None else range(self.length)
        return map(self.batch, itertools.islice(indices, rank, None, world) if self.split == "train" else indices)


class SequenceData(L.LightningDataModule):
    """Fresh training sequences without end, and fixed ones for validation and test.

    Args:
        task: where the sequences come from.
        batch_size: training sequences per step.
        eval_size: sequences for validation, and as many for test.
        data_seed: of the data; the model has a seed of its own.

    Raises:
        ValueError: a size is under 1, or the seed negative.
    """

    def __init__(self, task: Task, batch_size: int, eval_size: int, data_seed: int) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_size", eval_size, 1),
            ("data_seed", data_seed, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")
        self.task, self.batch_size, self.eval_size, self.data_seed = task, batch_size, eval_size, data_seed

    def _loader(self, split: str, batch_size: int, length: int | None) -> DataLoader:
        return DataLoader(Batches(self.task, split, batch_size, self.data_seed, length), batch_size=None)

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", self.batch_size, None)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", self.eval_size, 1)

    def test_dataloader(self) -> DataLoader:
        return self._loader("test", self.eval_size, 1)
