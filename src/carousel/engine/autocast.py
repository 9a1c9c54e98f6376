"""Autocast, as torch has it for each type of device: what it asks of a call, and how a kernel runs within."""

import contextlib
from typing import Any

import torch
from torch import Tensor


def autocasts(x: Tensor) -> bool:
    """Whether it is on for x's device."""
    if x.is_cpu:  # the device's type takes ten times as long, in each call
        return torch.is_autocast_enabled("cpu")
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def suspended(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context in which it is off for x's device."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else contextlib.nullcontext()


def widened(t: Any) -> Any:
    """A tensor, or None, as a kernel is given it where autocast is on: not in half precision."""
    return t.float() if t is not None and t.dtype in (torch.bfloat16, torch.float16) else t
