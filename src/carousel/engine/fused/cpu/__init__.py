"""The CPU as a target: a step's expressions as C++, in the loops that are written out in `*.hpp`."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch

from ..target import Kernel, Target

if TYPE_CHECKING:
    from ..graph import Phases, Step


class CPU(Target):
    """Kernels compiled by the user's C++ compiler."""

    device, name = "cpu", "the CPU"
    dtypes = (torch.float32, torch.float64)
    lacks = "the kernel is for Linux and macOS" if sys.platform == "win32" else ""

    def __init__(self) -> None:
        self.team = 0
        """Threads that share the hidden units of the same sequences; 0 leaves it to the kernel."""
        self.openmp = True
        """Whether a kernel may use the threads that torch has; a forked child has none of them."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._lose_threads)

    def _lose_threads(self) -> None:
        self.openmp = False

    @property
    def operations(self) -> Collection[str]:
        from .emit import OPERATIONS

        return OPERATIONS

    def kernel(
        self,
        step: Step | Phases,
        dtype: torch.dtype,
        hidden_size: int,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None = None,
    ) -> Kernel:
        from ..graph import Step
        from .phased import PhasedKernel  # not before there is one to be made, and never on Windows
        from .single import SingleKernel

        given = (dtype, hidden_size, sizes, update_mask, keep)
        return SingleKernel(self, step, *given) if isinstance(step, Step) else PhasedKernel(self, step, *given)
