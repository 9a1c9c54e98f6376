"""A kernel whose passes are functions in C++."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..target import Kernel
from . import build
from .signature import Signature

if TYPE_CHECKING:
    from . import CPU


class Compiled(Kernel):
    """Sources, compiled, and called with the structure that each of them declares.

    Raises:
        BuildError: there is no compiler, or it refuses.
    """

    def __init__(self, target: CPU, sources: dict[str, str], signatures: dict[str, Signature]) -> None:
        self.target, self.sources = target, sources
        libraries = build.load(sources)
        self.passes = {which: (library[which], signatures[which]) for which, library in libraries.items()}

    def call(self, which: str, x: Tensor, given: dict) -> None:
        given |= {"T": x.size(0), "B": x.size(1), "threads": torch.get_num_threads()}
        given |= {"team": self.target.team, "openmp": int(self.target.openmp)}
        function, signature = self.passes[which]
        if function(ctypes.byref(signature.fill(given))):
            raise MemoryError("no memory for the kernel's buffers")
