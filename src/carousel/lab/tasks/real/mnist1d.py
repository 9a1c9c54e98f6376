"""MNIST-1D: digits as short signals, made by rules."""

import functools
import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch

from ..task import Batch
from .labelled import Labelled

SHA256 = "4f5f4160c519e3c47f9d3e196c161336fcd32126a9efffe4153d6e7c8b73f963"
"""Of the 5000 labels in the order that the last random numbers gave them."""


@dataclass(frozen=True)
class MNIST1D(Labelled):
    """Tell a digit from a noisy signal of 40 steps (Greydanus & Kobak 2020), which the package mnist1d makes.

    Each digit is a curve of 12 points; it is stretched, shifted, sheared and laid into correlated noise.

        7   5 7 7 6.6 6.2 5.8 5.4 5 4.6 4.2 5 5      target class 7 of 10

    The 5000 signals of the published seed: the last 1000 for test, as published; of the 4000 others, in random order,
    the last 400 for validation and 3600 for training. Signals are scaled by the training split's mean and standard
    deviation. The loss is the cross-entropy.

    Published accuracy, trained on all 4000: logistic regression .32, MLP .68, bidirectional GRU of 6 units that reads
    out all steps .91, CNN .94, people .96.
    """

    input_size = 1
    classes = tuple("0123456789")
    what = "digit"

    def recorded(self) -> dict[str, Batch]:
        x, digits = made()
        parts = {"train": slice(3600), "val": slice(3600, 4000), "test": slice(4000, None)}
        return {name: Batch(x[part], digits[part]) for name, part in parts.items()}


@functools.cache
def made() -> tuple[torch.Tensor, torch.Tensor]:
    """Signals (5000, 40, 1) and digits (5000,), in the published order.

    Raises:
        ValueError: the package is missing, or makes something else.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise ValueError(f"task=mnist1d needs the package mnist1d ({error}): pip install mnist1d") from error
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        data = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    x, digits = (np.concatenate([data[name], data[f"{name}_test"]]) for name in "xy")
    if x.shape != (5000, 40) or hashlib.sha256(digits.astype(np.uint8).tobytes()).hexdigest() != SHA256:
        raise ValueError("the package mnist1d makes other data than published: pip install mnist1d==0.0.2.post1")
    return torch.from_numpy(x).float().unsqueeze(-1), torch.from_numpy(digits).long()
