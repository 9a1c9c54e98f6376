import itertools

import pytest
import torch

from carousel.lab.data import SequenceData
from carousel.lab.tasks import IGNORE, Adding, Batch, Classification, Recorded, Stream


def first(loader, n=3):
    return [batch.input for batch in itertools.islice(loader, n)]


def test_the_same_seed_gives_the_same_batches_and_another_gives_others():
    a, b, c = (first(SequenceData(Adding(8), 4, 16, seed).train_dataloader()) for seed in (0, 0, 1))
    assert all(torch.equal(s, t) for s, t in zip(a, b, strict=True))
    assert not any(torch.equal(s, t) for s, t in zip(a, c, strict=True))
    assert not torch.equal(a[0], a[1])


def test_no_sequence_is_in_two_splits():
    data = SequenceData(Adding(8), 16, 16, 0)
    splits = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    rows = [{tuple(sequence.flatten().tolist()) for x in first(loader) for sequence in x} for loader in splits]
    assert [len(r) for r in rows] == [48, 16, 16]
    assert not rows[0] & rows[1]
    assert not rows[1] & rows[2]
    assert not rows[0] & rows[2]


def test_the_global_seed_has_no_part_in_it():
    data = SequenceData(Adding(8), 4, 16, 0)
    torch.manual_seed(1)
    a = first(data.train_dataloader())
    torch.manual_seed(2)
    assert torch.equal(a[0], first(data.train_dataloader())[0])


@pytest.mark.parametrize("train_size", [None, 12])
def test_two_processes_share_the_training_batches_and_see_the_same_validation(monkeypatch, train_size):
    whole = first(SequenceData(Adding(8), 4, 16, 0, train_size).train_dataloader(), 4)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        data = SequenceData(Adding(8), 4, 16, 0, train_size)
        share = first(data.train_dataloader(), 2)
        assert all(torch.equal(a, b) for a, b in zip(share, whole[rank::2], strict=True))
        assert len(list(data.val_dataloader())) == 1


def rows(batches):
    return [tuple(sequence.flatten().tolist()) for x in batches for sequence in x]


def test_a_finite_training_set_is_visited_in_epochs_each_in_an_order_of_its_own():
    loader = SequenceData(Adding(8), 4, 16, 0, train_size=12).train_dataloader()
    batches = first(loader, 9)
    assert all(x.shape == (4, 8, 2) for x in batches)
    epochs = [rows(batches[k : k + 3]) for k in (0, 3, 6)]
    assert len(set(epochs[0])) == 12
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    again = first(SequenceData(Adding(8), 4, 16, 0, train_size=12).train_dataloader(), 9)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    other = first(SequenceData(Adding(8), 4, 16, 1, train_size=12).train_dataloader(), 3)
    assert not set(rows(other)) & set(epochs[0])


def test_a_sequence_keeps_its_target_in_every_order():
    loader = SequenceData(Adding(8), 4, 16, 0, train_size=12).train_dataloader()
    for x, y, *_ in itertools.islice(loader, 9):
        torch.testing.assert_close(y[:, 0], (x[..., 0] * x[..., 1]).sum(1))


def test_a_smaller_training_set_is_part_of_a_larger_one_whatever_the_batch_size():
    sizes = {3: (8, 1), 8: (8, 1), 24: (8, 3), 48: (16, 3)}  # (batch_size, batches in an epoch)
    sets = {
        n: set(rows(first(SequenceData(Adding(8), b, 16, 0, n).train_dataloader(), k))) for n, (b, k) in sizes.items()
    }
    assert [len(s) for s in sets.values()] == list(sets)
    assert sets[3] < sets[8] < sets[24] < sets[48]
    assert not sets[48] & set(rows(first(SequenceData(Adding(8), 4, 500, 0).val_dataloader())))


@pytest.mark.parametrize("train_size", [None, 12])
def test_a_stream_goes_on_where_it_was_left(train_size):
    whole, parts = (SequenceData(Adding(8), 4, 16, 0, train_size).train_dataloader() for _ in range(2))
    again = [*first(parts, 2), *first(parts, 5), *first(parts, 1)]
    assert all(torch.equal(a, b) for a, b in zip(first(whole, 8), again, strict=True))


def test_validation_data_are_the_same_each_time():
    loader = SequenceData(Adding(8), 4, 16, 0).val_dataloader()
    assert torch.equal(*[next(iter(loader))[0] for _ in range(2)])


def test_what_does_not_fill_a_batch_sits_the_epoch_out():
    loader = SequenceData(Adding(8), 4, 16, 0, train_size=7).train_dataloader()
    batches = first(loader, 20)
    assert all(len(x) == len(set(rows([x]))) == 4 for x in batches)
    assert len(set(rows(batches))) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 0), "batch_size must be an integer of at least 1, got 0"),
        ((1, 5, -1), "data_seed must be .* got -1"),
        ((1, 5, 0, 0), "train_size, unless null, must be an integer of at least 1, got 0"),
        ((1, 5, 0, 2.5), "train_size, .* got 2.5"),
        ((1, 5, 0, True), "train_size, .* got True"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SequenceData(Adding(8), *arguments)


class Count(Stream, Classification):
    """The numbers 0, 1, 2, ... each of which is to be told from the one before."""

    input_size = output_size = 1000
    symbols = True

    def __init__(self, chunk, steps=100):
        self.chunk, self.steps = chunk, steps
        self.__post_init__()

    def series(self, split):
        x = torch.arange(self.steps)
        return x, x + 1


@pytest.mark.parametrize("world", [1, 2])
def test_the_rows_of_a_stream_go_on_from_chunk_to_chunk_and_begin_elsewhere_each_time(monkeypatch, world):
    monkeypatch.setattr("carousel.lab.data.process", lambda: (world - 1, world))
    loader = SequenceData(Count(7), 3, data_seed=1).train_dataloader()
    batches = list(itertools.islice(loader, 40))
    begins = [k for k, batch in enumerate(batches) if not batch.goes_on]
    assert len(begins) > 3
    assert len({batches[k].input[0, 0].item() for k in begins}) > 2
    for before, batch in itertools.pairwise(batches):
        assert batch.input.shape == (3, 7)
        assert torch.equal(batch.target, batch.input + 1)
        assert torch.equal(batch.input.diff(dim=1), torch.ones(3, 6, dtype=torch.long))
        if batch.goes_on:
            assert torch.equal(batch.input[:, 0], before.input[:, -1] + 1)


@pytest.mark.parametrize("rows", [1, 3, 8, 100, 500])
def test_the_evaluation_of_a_stream_takes_every_step_once(rows):
    data = SequenceData(Count(7), 3, eval_size=rows)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        batches = list(loader)
        assert [batch.goes_on for batch in batches] == [False] + [True] * (len(batches) - 1)
        targets = torch.cat([batch.target for batch in batches], 1).flatten()
        assert targets[targets != IGNORE].tolist() == list(range(1, 101))
        inputs = torch.cat([batch.input for batch in batches], 1).flatten()
        assert torch.equal(inputs[targets != IGNORE] + 1, targets[targets != IGNORE])


def test_a_stream_too_short_for_its_rows_is_refused():
    with pytest.raises(ValueError, match=r"batch_size x task.chunk .* 100 steps .* got 20 x 7"):
        SequenceData(Count(7), 20)
    with pytest.raises(ValueError, match="train_size must be at most 100, the steps of training data that there are"):
        SequenceData(Count(7), 2, train_size=101)
    assert (
        max(b.input.max() for b in itertools.islice(SequenceData(Count(7), 2, train_size=40).train_dataloader(), 99))
        < 40
    )


class Ragged(Recorded, Classification):
    """Sequence k has k + 1 steps, each of which says k."""

    input_size, output_size, symbols = 30, 30, True

    def split(self, name):
        begin, end = {"train": (0, 20), "val": (20, 25), "test": (25, 30)}[name]
        k = torch.arange(begin, end)
        padding = torch.arange(end) > k[:, None]
        return Batch(k[:, None].expand(-1, end).masked_fill(padding, -1), k, k + 1)


@pytest.mark.parametrize("size", [None, 12])
def test_recorded_sequences_are_visited_in_epochs_without_the_padding_that_a_batch_shares(size):
    loader = SequenceData(Ragged(), 4, train_size=size).train_dataloader()
    num = size or 20
    batches = list(itertools.islice(loader, 2 * num // 4))
    for batch in batches:
        assert batch.input.size(1) == batch.lengths.max()
        for row, target, length in zip(batch.input, batch.target, batch.lengths, strict=True):
            assert row[:length].eq(target).all()
            assert length == target + 1
    epochs = [torch.cat([b.target for b in batches[k : k + num // 4]]).tolist() for k in (0, num // 4)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == num
    assert epochs[0] != epochs[1]


def test_recorded_data_are_evaluated_whole_however_many_at_once():
    for size in (None, 2, 5, 7):
        data = SequenceData(Ragged(), 4, eval_size=size)
        assert torch.cat([b.target for b in data.val_dataloader()]).tolist() == [20, 21, 22, 23, 24]
        assert torch.cat([b.target for b in data.test_dataloader()]).tolist() == [25, 26, 27, 28, 29]
    with pytest.raises(
        ValueError, match="train_size must be at most 20, the training sequences that there are, got 21"
    ):
        SequenceData(Ragged(), 4, train_size=21)
