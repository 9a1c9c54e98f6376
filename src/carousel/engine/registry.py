"""What the engine learns from call to call, for all layers and threads, is in here.

Elsewhere there are but memos of what stays as it is while a process runs (what a class's code reads, in reads.py; the
compiler, in cpu/build.py; what a source defines, in triton/build.py), and in `fused.TARGETS` how a CPU's kernels split
their work, which a fork alone changes, and tests.
"""

import itertools
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..cells.cell import Cell

if TYPE_CHECKING:
    from .eager import Norms
    from .fused.recurrence import Fused


class Kernels:
    """The kernels by key. No dictionary, of which a compiler keeps what it has seen at first: it may ask for one kernel
    after the other, each made as it comes to it."""

    def __getitem__(self, key: str) -> "Fused":
        return getattr(self, key)

    def __setitem__(self, key: str, kernel: "Fused") -> None:
        setattr(self, key, kernel)


@dataclass
class Known:
    """What is known of one cell."""

    tensors: tuple[Any, ...]
    """Name and shape of each of its parameters and buffers, and which of them are the same."""
    values: list[tuple[Any, ...]] = field(default_factory=list)
    """Of what its code reads, the values that there are kernels for."""
    last: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    """For a device, a dtype and masks, what its code has read at last, and the plan for that."""


class Registry:
    """Plans, kernels, who is told of gradients, and what has been told. `lock` is held by whoever makes a plan."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.kernels = Kernels()
        self.plans: dict[tuple[Any, ...], tuple[str, str]] = {}
        """For what a kernel depends on, its key, or ""; and why there is one, or none. Equal cells share it."""
        self.cells: WeakKeyDictionary[Cell, Known] = WeakKeyDictionary()
        self.watched: WeakValueDictionary[int, Norms] = WeakValueDictionary()
        """By token."""
        self.said: set[str] = set()
        self._tokens = itertools.count(1)

    def watch(self, norms: "Norms") -> int:
        """The token by which an operator, which can't be given such an object, finds it."""
        token = next(self._tokens)
        self.watched[token] = norms
        return token

    def warn(self, text: str) -> None:
        """Log a warning, each once."""
        if text not in self.said:
            self.said.add(text)
            logging.getLogger("carousel").warning(text)

    def forget(self) -> None:
        """Plan anew whatever comes; what has been made is kept."""
        with self.lock:
            self.plans.clear()
            self.cells.clear()


REGISTRY = Registry()
