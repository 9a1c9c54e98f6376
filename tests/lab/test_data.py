import itertools

import pytest
import torch

from carousel.lab.data import SequenceData
from carousel.lab.tasks import Adding


def first(loader, n=3):
    return [x for x, _ in itertools.islice(loader, n)]


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


def test_two_processes_share_the_training_batches_and_see_the_same_validation(monkeypatch):
    whole = first(SequenceData(Adding(8), 4, 16, 0).train_dataloader(), 4)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        data = SequenceData(Adding(8), 4, 16, 0)
        share = first(data.train_dataloader(), 2)
        assert all(torch.equal(a, b) for a, b in zip(share, whole[rank::2], strict=True))
        assert len(list(data.val_dataloader())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5, 0), "batch_size must be an integer of at least 1, got 0"), ((1, 5, -1), "data_seed must be .* got -1")],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SequenceData(Adding(8), *arguments)
