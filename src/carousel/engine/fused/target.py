"""What a target provides: the step of a cell, over time, as a kernel for one type of device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .graph import Phases, Step


class BuildError(Exception):
    """There is no kernel, for the reason given."""


class Kernel(ABC):
    """All steps of a cell in one call, forwards or backwards, ready to run."""

    sources: dict[str, str]
    """What each pass was built from: kernels of the same sources do the same."""
    saved: tuple[int, ...]
    """The nodes of the step's graph that the forward pass keeps for the adjoint."""
    kept: int
    """Numbers that it keeps, for each step of a sequence."""
    how: str = "one kernel for all steps"
    """What `explain` says of it."""

    @abstractmethod
    def call(self, which: str, x: Tensor, given: dict[str, Tensor | list[Tensor | None] | None]) -> None:
        """Run a pass, on the current stream, if the device has any.

        The caller has made all tensors, results too, on x's device; all but x are contiguous. What is missing, None or
        empty is not there, or not wanted. The product W x and its gradients are the kernel's to compute, with W.

        Args:
            which: "forward" or "backward".
            x: (T, B, features), the input, or what a `Step` that does not map it itself, or `Phases`, reads of it.
            given: whatever else `arguments` names for this pass.

        Raises:
            MemoryError: there is too little for what the pass needs besides.
        """

    @abstractmethod
    def unpack(self, kept: Tensor) -> list[Tensor]:
        """Each of the nodes that the forward pass has kept, (T, B, its units or 1), from (T, B, kept)."""


class Target(ABC):
    """Kernels for one type of device."""

    device: str
    """The type, as in `torch.device.type`."""
    name: str
    """What messages call it."""
    dtypes: tuple[torch.dtype, ...]
    projects: bool = True
    """Whether it does a `Step` with a projection; if not, it is given such a step as `Phases`."""
    maps: bool = True
    """Whether W x, where a step reads it, is a kernel's to make as well; if not, it is torch's."""
    lacks: str
    """Why there are no kernels at all on this machine, or "". What takes long to find out, as whether a compiler works,
    is left to a `BuildError`."""

    def unfit(self, x: Tensor) -> str:
        """Why there is no kernel for such an input, or ""."""
        device = "cpu" if x.is_cpu else x.device.type  # which takes ten times as long, in each call
        if device != self.device:
            return f"the kernel is for {self.name}, not for {device}"
        if x.dtype not in self.dtypes:
            known = " and ".join(str(dtype).removeprefix("torch.") for dtype in self.dtypes)
            return f"the kernel is for {known}, not for {x.dtype}"
        return self.lacks

    @property
    @abstractmethod
    def operations(self) -> Collection[str]:
        """What it can compute unit by unit: aten's names, without overload, as a trace may use them."""

    @abstractmethod
    def kernel(
        self,
        step: Step | Phases,
        dtype: torch.dtype,
        hidden_size: int,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None = None,
    ) -> Kernel:
        """A kernel, built.

        Args:
            step: of a cell.
            dtype: of all floating-point tensors.
            hidden_size: H.
            sizes: features of each state.
            update_mask: of each state, as in `Kinds`.
            keep: the nodes that the forward pass is to keep, in place of what the adjoint needs; then there is no
                backward pass.

        Raises:
            Unsupported: this target can't do such a step; it is left to the loop.
            BuildError: it cannot be built here.
        """
