"""One datamodule for every task."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .tasks import IGNORE, Batch, Generated, Recorded, Stream, Task

PURPOSES = ("train", "val", "test", "order", "subset")  # of random numbers: each split, each epoch's order, a part
ENDLESS = 2**62
"""What an endless dataset gives as its length: without one Lightning takes a batch ahead, and loses it at the end of
each epoch."""


def generator(seed: int, purpose: str, i: int) -> torch.Generator:
    entropy = np.random.SeedSequence((seed, PURPOSES.index(purpose), i))
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


class Batches(IterableDataset):
    """Batches number 0, 1, 2, ..., each of which depends on its number alone, so every model sees the same ones.

    Args:
        batch: makes number i.
        length: how many; None is without end, and goes on where it was left when it is read again.
    """

    def __init__(self, batch: Callable[[int], Batch], length: int | None = None) -> None:
        self.batch, self.length = batch, length
        self.taken = 0  # of those without end, by this process

    def __len__(self) -> int:
        return ENDLESS if self.length is None else self.length

    def __iter__(self) -> Iterator[Batch]:
        """All of them; of those without end, in one of several processes, its share."""
        if self.length is not None:
            yield from map(self.batch, range(self.length))
            return
        rank, world = process()
        while True:
            self.taken += 1
            yield self.batch((self.taken - 1) * world + rank)


def process() -> tuple[int, int]:
    """The number of this process, and of how many."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def of_all_processes(what: Any) -> list[Any]:
    """What each process has of something, in their order. All of them have to ask."""
    found = [what] * process()[1]
    if len(found) > 1:
        dist.all_gather_object(found, what)
    return found


def rows(task: Task, sequences: Batch, which: Tensor | slice) -> Batch:
    """Some of the sequences, without the padding that they share."""
    x, target, lengths, _ = sequences.at(which)
    if lengths is not None:
        longest = int(lengths.max())
        x, target = x[:, :longest], target[:, :longest] if task.every_step else target
    return Batch(x, target, lengths)


def joined(task: Task, batches: list[Batch]) -> Batch:
    """Sequences of several batches in one, padded with zeros to the longest."""
    lengths = [batch.lengths for batch in batches if batch.lengths is not None]
    if not lengths:
        return Batch(torch.cat([batch.input for batch in batches]), torch.cat([batch.target for batch in batches]))
    longest = max(batch.input.size(1) for batch in batches)

    def padded(t: Tensor) -> Tensor:
        return torch.cat([t, t.new_zeros(len(t), longest - t.size(1), *t.shape[2:])], 1)

    x = torch.cat([padded(batch.input) for batch in batches])
    target = torch.cat([padded(batch.target) if task.every_step else batch.target for batch in batches])
    return Batch(x, target, torch.cat(lengths))


def epochs(task: Task, sequences: Callable[[], Batch], which: Tensor, batch_size: int, seed: int) -> Batches:
    """Batches without end of some training sequences, visited in epochs, each in an order of its own. The sequences
    are not copied but for those of a batch, so they may be views of one series.

    What does not fill a batch sits the epoch out; a set smaller than `batch_size` is one batch.
    """
    size = len(which)
    batch_size = min(batch_size, size)
    sequences = functools.cache(sequences)

    def batch(i: int) -> Batch:
        epoch, k = divmod(i, size // batch_size)
        order = torch.randperm(size, generator=generator(seed, "order", epoch))
        return rows(task, sequences(), which[order[k * batch_size : (k + 1) * batch_size]])

    return Batches(batch)


def chunks(series: tuple[Tensor, Tensor], chunk: int, num_rows: int, seed: int) -> Batches:
    """A series (inputs, targets) without end: `num_rows` pieces side by side, in chunks whose rows go on.

    Each time through, it is cut at other places. Of several processes each has rows of its own.

    Raises:
        ValueError: a row would be shorter than a chunk.
    """
    x, target = series
    rank, world = process()
    length = (len(x) - chunk + 1) // (num_rows * world)  # of a row, wherever it begins
    if length < chunk:
        raise ValueError(
            f"batch_size x task.chunk must be at most about the {len(x)} steps of the training data, "
            f"got {num_rows} x {chunk}"
        )
    begins = torch.arange(rank * num_rows, (rank + 1) * num_rows) * length

    def batch(i: int) -> Batch:
        epoch, k = divmod(i // world, length // chunk)
        shift = int(torch.randint(chunk, (), generator=generator(seed, "order", epoch)))
        steps = (shift + begins + k * chunk)[:, None] + torch.arange(chunk)  # (num_rows, chunk)
        return Batch(x[steps], target[steps], goes_on=k > 0)

    return Batches(batch)


def once(series: tuple[Tensor, Tensor], chunk: int, num_rows: int) -> Batches:
    """Every step of a series once; the end of the last row is filled up with steps that have no target."""
    x, target = series
    num_rows = min(num_rows, len(x))
    length = math.ceil(len(x) / num_rows)
    more = num_rows * length - len(x)
    nothing = math.nan if target.is_floating_point() else IGNORE
    x, target = (torch.cat([t, t.new_full((more, *t.shape[1:]), fill)]) for t, fill in ((x, 0), (target, nothing)))
    x, target = (t.unflatten(0, (num_rows, length)) for t in (x, target))

    def batch(k: int) -> Batch:
        part = slice(k * chunk, (k + 1) * chunk)
        return Batch(x[:, part], target[:, part], goes_on=k > 0)

    return Batches(batch, math.ceil(length / chunk))


class SequenceData(L.LightningDataModule):
    """Training data without end, fresh or a finite set over and over, and fixed data for validation and test.

    Args:
        task: where the sequences come from.
        batch_size: training sequences per step; of a stream, the rows that are read side by side.
        eval_size: sequences for validation, and as many for test; of recorded data how many at once, and of a stream
            the rows. None: 500, and 8 rows.
        data_seed: of the data, with random numbers of their own for training, validation and test; the model draws
            from none.
        train_size: training sequences in all, visited again and again, or steps of a stream; None: fresh ones without
            end, or all that were recorded. Scaling, vocabularies and baselines are fitted on all in any case.

    Raises:
        ValueError: a size is under 1 or more than there is, or the seed negative.
    """

    def __init__(
        self,
        task: Generated | Recorded | Stream,
        batch_size: int,
        eval_size: int | None = None,
        data_seed: int = 0,
        train_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_size, unless null,", 1 if eval_size is None else eval_size, 1),
            ("data_seed", data_seed, 0),
            ("train_size, unless null,", 1 if train_size is None else train_size, 1),
        ):
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value}")
        self.task, self.batch_size, self.eval_size, self.data_seed = task, batch_size, eval_size, data_seed
        self.train_size = train_size
        self._taken = 0  # training batches, by the run that this one goes on from
        self._training()  # so that what is wrong is said before work starts

    def _training(self) -> Batches:
        task, size, seed = self.task, self.train_size, self.data_seed
        if isinstance(task, Generated):
            if size is None:
                return Batches(lambda i: task.sample(self.batch_size, generator(seed, "train", i)))
            # Sequence k depends on (seed, k) alone, so a smaller set is part of a larger one.
            single = Batches(lambda k: task.sample(1, generator(seed, "train", k)), size)
            return epochs(task, lambda: joined(task, list(single)), torch.arange(size), self.batch_size, seed)
        if isinstance(task, Recorded):
            whole = task.split("train")
            num = _at_most(size, len(whole.input), "training sequences")
            some = torch.randperm(len(whole.input), generator=generator(seed, "subset", 0))[:num]
            return epochs(task, lambda: whole, some, self.batch_size, seed)
        x, target = task.series("train")
        num = _at_most(size, len(x), "steps of training data")
        return chunks((x[:num], target[:num]), task.chunk, self.batch_size, seed)

    def _evaluation(self, split: str) -> Batches:
        task = self.task
        if isinstance(task, Generated):
            source, num = task.tested() if split == "test" else task, self.eval_size or 500
            return Batches(lambda i: source.sample(num, generator(self.data_seed, split, i)), 1)
        if isinstance(task, Recorded):
            whole, num = task.split(split), self.eval_size or 500
            return Batches(
                lambda i: rows(task, whole, slice(i * num, (i + 1) * num)), math.ceil(len(whole.input) / num)
            )
        return once(task.series(split), task.chunk, self.eval_size or 8)

    def state_dict(self) -> dict[str, int]:
        trainer: Any = self.trainer
        return {"taken": trainer.fit_loop.epoch_loop.batch_progress.total.completed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._taken = state["taken"]

    def train_dataloader(self) -> DataLoader:
        batches = self._training()
        batches.taken = self._taken
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self._evaluation("val"), batch_size=None)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self._evaluation("test"), batch_size=None)


def _at_most(size: int | None, there: int, what: str) -> int:
    if size is not None and size > there:
        raise ValueError(f"train_size must be at most {there}, the {what} that there are, got {size}")
    return size or there
