"""Images of handwritten digits, read as sequences."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..task import Batch
from .labelled import Labelled
from .recordings import embedded

ORDERS = ("rows", "pixels", "permuted")


@dataclass(frozen=True)
class Images(Labelled):
    """Square images of ten classes, `side` pixels wide, as sequences.

    Args:
        by: "rows", from top to bottom, a row a step; "pixels", row after row, a pixel a step; "permuted", the pixels
            in one random order, the same for all images.

    Raises:
        ValueError: `by` is none of these.
    """

    by: str = "rows"
    side = 0
    alike = True
    classes = tuple("0123456789")
    what = "digit"

    def __post_init__(self) -> None:
        if self.by not in ORDERS:
            raise ValueError(f"by must be one of {', '.join(ORDERS)}, got {self.by}")

    @property
    def input_size(self) -> int:
        return self.side if self.by == "rows" else 1

    def sequences(self, images: Tensor) -> Tensor:
        """Images (B, side, side) as sequences (B, T, input_size)."""
        x = images.float().reshape(len(images), -1, self.input_size)
        if self.by == "permuted":
            x = x[:, torch.randperm(x.size(1), generator=torch.Generator().manual_seed(0))]
        return x

    def read(self, data: Tensor) -> Tensor:
        """Images (B, side, side) as the model reads them."""
        return super().read(self.sequences(data))

    def batch(self, images: np.ndarray, classes: np.ndarray) -> Batch:
        return Batch(self.sequences(torch.tensor(images)), torch.tensor(classes, dtype=torch.long))


@dataclass(frozen=True)
class Digits(Images):
    """Tell a handwritten digit from 8x8 pixels (Kaynak & Alpaydin 1995; the 1797 images that scikit-learn holds).

    A pixel is from 0 to 16. The first image is a zero, and its rows are

        0  0  5 13  9  1  0  0
        0  0 13 15 10 15  5  0
        0  3 15  2  0 11  8  0   ...      target class 0 of 10

    By rows it is 8 steps of 8 features; by pixels 64 steps, 0 0 5 13 9 ..., of one.

    The first 1200 images are for training, the next 300 for validation, and the last 297 for test. 13 people wrote
    them; nothing says who wrote which, but those that follow one another look as if they were of one hand, so that most
    hands of the test are in no other split. Pixels are scaled by the training split's mean and standard deviation. The
    loss is the cross-entropy.
    """

    side = 8

    def recorded(self) -> dict[str, Batch]:
        data = embedded("digits")
        parts = {"train": slice(1200), "val": slice(1200, 1500), "test": slice(1500, None)}
        images = data["pixels"].reshape(-1, 8, 8)
        return {name: self.batch(images[part], data["digit"][part]) for name, part in parts.items()}


@dataclass(frozen=True)
class MNIST(Images):
    """Tell a handwritten digit from 28x28 pixels (LeCun et al. 1998), or anything else in files of that form, such as
    Fashion-MNIST.

    By rows an image is 28 steps of 28 features; by pixels, 784 of one; permuted, the same in a fixed random order.

    Of the training files' images the last twelfth (5000 of 60,000) is for validation; the test files' are for test.
    Pixels are scaled by the training split's mean and standard deviation. The loss is the cross-entropy.

    Published accuracy by pixels and permuted, of about 70,000 parameters (Bai, Kolter & Koltun 2018): LSTM .872 and
    .857, GRU .962 and .873, RNN .215 and .253.

    Args:
        path: the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each as it is or with .gz.
    """

    path: str | None = None
    side = 28

    def recorded(self) -> dict[str, Batch]:
        if self.path is None:
            raise FileNotFoundError(
                "task=mnist needs task.path: a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each as it is or with .gz"
            )
        (images, digits), test = (self._pair(Path(self.path), which) for which in ("train", "t10k"))
        num = len(digits) - max(1, len(digits) // 12)
        parts = {"train": (images[:num], digits[:num]), "val": (images[num:], digits[num:]), "test": test}
        return {name: self.batch(*part) for name, part in parts.items()}

    def _pair(self, folder: Path, which: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (B, 28, 28) and labels (B,) of "train" or "t10k"."""
        (images, x), (labels, y) = (find(folder, f"{which}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
        pixels, digits = read_idx(images, x, 3), read_idx(labels, y, 1)
        if pixels.shape[1:] != (28, 28):
            raise ValueError(f"{images} holds images of {' x '.join(map(str, pixels.shape[1:]))} pixels, not 28 x 28")
        if len(pixels) != len(digits):
            raise ValueError(f"{images} holds {len(pixels)} images, and {labels} {len(digits)} labels")
        if not len(digits) or digits.max() > 9:
            raise ValueError(f"{labels} must hold labels from 0 to 9, got {sorted(set(digits.tolist()))[-3:]}")
        return pixels, digits


def find(folder: Path, name: str) -> tuple[Path, bytes]:
    """A file of a folder, as it is or with .gz, and what it holds.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it cannot be unpacked.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            try:
                return path, gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{path} is damaged, or no gzip file: {error}") from error
    raise FileNotFoundError(f"task.path: there is neither {folder / name} nor {name}.gz beside it")


def read_idx(path: Path, data: bytes, dimensions: int) -> np.ndarray:
    """Bytes in an array of so many dimensions, from LeCun's format: two zeros, the type (8: bytes), the number of
    dimensions, then each size as 4 bytes, the highest first, then the values.

    Raises:
        ValueError: `data`, which are of the file `path`, are anything else.
    """
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < 4 + 4 * dimensions:
        begins, expected = data[:4].hex(" ") or "nothing", bytes([0, 0, 8, dimensions]).hex(" ")
        raise ValueError(
            f"{path} is no IDX file of bytes in {dimensions} dimensions: it begins with {begins}, not {expected}"
        )
    sizes = np.frombuffer(data, ">u4", dimensions, 4).tolist()
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if len(values) != math.prod(sizes):
        kind = "truncated" if len(values) < math.prod(sizes) else "too long"
        raise ValueError(f"{path} is {kind}: {' x '.join(map(str, sizes))} bytes are announced, {len(values)} there")
    return values.reshape(sizes)
