"""Images as sequences, and the files that they may come from."""

import gzip
import itertools
import struct

import numpy as np
import pytest
import torch
from torch import nn

import carousel
from carousel.lab.data import SequenceData
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import MNIST, Digits

FIRST = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0], [0, 3, 15, 2, 0, 11, 8, 0]]


def test_an_image_by_rows_by_pixels_and_permuted():
    rows, pixels, permuted = (Digits(by).recorded()["train"] for by in ("rows", "pixels", "permuted"))
    assert rows.input[0, :3].tolist() == FIRST
    assert pixels.input[0, :24, 0].tolist() == [pixel for row in FIRST for pixel in row]
    assert rows.target[:10].tolist() == list(range(10))
    assert rows.input.shape == (1200, 8, 8)
    assert permuted.input.shape == (1200, 64, 1)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert order[:5].tolist() == [44, 46, 17, 3, 47]
    assert torch.equal(permuted.input, pixels.input[:, order])


def test_splits_follow_one_another_and_have_nothing_in_common():
    found = Digits().recorded()
    assert [len(batch.target) for batch in found.values()] == [1200, 300, 297]
    images = torch.cat([batch.input for batch in found.values()])
    assert len(images.unique(dim=0)) == 1797
    assert images.max() == 16


@pytest.mark.parametrize("by", ["rows", "pixels", "permuted"])
def test_pixels_are_scaled_by_training_images_alone(by):
    task = Digits(by)
    raw = task.recorded()
    mean, std = raw["train"].input.mean(), raw["train"].input.std(correction=0)
    torch.testing.assert_close(task.split("test").input, (raw["test"].input - mean) / std)
    image = torch.tensor(FIRST + [[0] * 8] * 5)[None]
    torch.testing.assert_close(task.read(image), (task.sequences(image) - mean) / std)


def test_what_the_baselines_score():
    for by in ("rows", "pixels", "permuted"):
        task = Digits(by)
        data = SequenceData(task, 32)
        right = {name: round(297 * scores(task, predict, data.test_dataloader())["accuracy"])
                 for name, predict in task.baselines().items()}  # fmt: skip
        assert right == {"most frequent class": 30, "nearest mean": 253}


def test_ours_and_torchs_learn_the_same_from_pixels():
    losses = []
    for kind in (carousel.LSTM, nn.LSTM):
        torch.manual_seed(0)
        task = Digits("pixels")
        layer = kind(1, 6, batch_first=True, dtype=torch.float64)
        learner = SequenceModule(SequenceModel(layer, task), task)
        optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
        for batch in itertools.islice(SequenceData(task, 16).train_dataloader(), 20):
            optimizer.zero_grad()
            loss = learner.loss(batch)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize("task", [Digits, MNIST])
def test_another_order_is_refused(task):
    with pytest.raises(ValueError, match="by must be one of rows, pixels, permuted, got columns"):
        task("columns")


def idx(values, begin=b"\0\0\x08"):
    return begin + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


FILES = {
    "train-images-idx3-ubyte": idx((np.arange(24 * 28 * 28) % 251).astype(np.uint8).reshape(24, 28, 28)),
    "train-labels-idx1-ubyte": idx((np.arange(24) % 10).astype(np.uint8)),
    "t10k-images-idx3-ubyte": idx((np.arange(3 * 28 * 28) % 241).astype(np.uint8).reshape(3, 28, 28)),
    "t10k-labels-idx1-ubyte": idx(np.array([7, 0, 9], np.uint8)),
}


def folder(path, **changed):
    for name, data in (FILES | changed).items():
        if data is not None:
            (path / name).write_bytes(data)
    return str(path)


def test_files_as_they_are_and_packed(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    folder(plain)
    for name, data in FILES.items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(data))
    for path in (plain, packed):
        found = MNIST("rows", str(path)).recorded()
        assert [batch.target.tolist() for batch in found.values()] == [
            [k % 10 for k in range(22)],
            [2, 3],
            [7, 0, 9],
        ]
        assert found["train"].input[0, 1].tolist() == list(range(28, 56))
        assert found["val"].input[0, 0, 0] == 22 * 784 % 251
        assert found["test"].input.shape == (3, 28, 28)
    pixels, permuted = (MNIST(by, str(plain)).recorded()["test"].input for by in ("pixels", "permuted"))
    assert pixels[0, :300, 0].tolist() == [k % 241 for k in range(300)]
    order = torch.randperm(784, generator=torch.Generator().manual_seed(0))
    assert torch.equal(permuted, pixels[:, order])
    task = MNIST("rows", str(plain))  # with classes that training has not
    assert set(task.baselines()) == {"most frequent class", "nearest mean"}


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (IMAGES, FILES[IMAGES][:-1], "is truncated: 24 x 28 x 28 bytes are announced, 18815 there"),
        (IMAGES, FILES[IMAGES] + b"\0", "is too long: 24 x 28 x 28 bytes are announced, 18817 there"),
        (IMAGES, b"", "is no IDX file of bytes in 3 dimensions: it begins with nothing, not 00 00 08 03"),
        (IMAGES, FILES[IMAGES][:10], "is no IDX file of bytes in 3 dimensions"),
        (IMAGES, b"\x89PNG and so on", "it begins with 89 50 4e 47, not 00 00 08 03"),
        (IMAGES, FILES[LABELS], "it begins with 00 00 08 01, not 00 00 08 03"),
        (IMAGES, idx(np.zeros((24, 28, 28), np.uint8), b"\0\0\x0d"), "it begins with 00 00 0d 03"),
        (IMAGES, idx(np.zeros((24, 32, 32), np.uint8)), "holds images of 32 x 32 pixels, not 28 x 28"),
        (IMAGES, idx(np.zeros((23, 28, 28), np.uint8)), "holds 23 images, and .*train-labels-idx1-ubyte 24 labels"),
        (LABELS, idx(np.array([1, 2, 26], np.uint8)), r"must hold labels from 0 to 9, got \[1, 2, 26\]"),
        (LABELS, idx(np.array([], np.uint8)), "holds 3 images, and .*t10k-labels-idx1-ubyte 0 labels"),
        (LABELS, None, "task.path: there is neither .* nor t10k-labels-idx1-ubyte.gz beside it"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, data, message):
    path = folder(tmp_path, **{name: data})
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        MNIST(path=path).split("train")
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("cut", [slice(0, -9), slice(0, 30), slice(4, None)])
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path, cut):
    path = folder(tmp_path, **{IMAGES: None})
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(FILES[IMAGES])[cut])
    with pytest.raises(ValueError, match=f"{IMAGES}.gz is damaged, or no gzip file"):
        MNIST(path=path).split("train")


def test_one_line_says_what_to_do_where_there_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^task=mnist needs task\.path: a folder with train-images-idx3-ubyte"):
        MNIST().split("train")
    with pytest.raises(FileNotFoundError, match=r"^task\.path: there is neither .*/no/train-images-idx3-ubyte nor"):
        MNIST(path=f"{tmp_path}/no").split("train")
