"""GPUs as a target, by Triton: a step's expressions as functions of Triton's, which it compiles."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from ..target import Kernel, Target

if TYPE_CHECKING:
    from ..graph import Phases, Step


class Triton(Target):
    """Kernels compiled by Triton, or run by its interpreter."""

    dtypes, projects = (torch.float32, torch.float64, torch.bfloat16, torch.float16), False
    maps = False  # cuBLAS is as fast
    lacks = "" if find_spec("triton") else 'Triton is missing: pip install "torch-carousel[triton]"'

    def __init__(self) -> None:
        self.interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        """Whether kernels are run by Triton's interpreter, on tensors of the CPU."""
        self.device, self.name = ("cpu", "Triton's interpreter") if self.interpreted else ("cuda", "CUDA")
        self.on_chip: int | None = None
        """Bytes that a program may keep on its chip; None for what the GPUs here have."""
        self.widest = 128
        """Units, in float32, of which one program does all, if it reads the weights in every step: of more, registers
        overflow."""

    def room(self) -> int:
        """The same, in numbers: without a GPU what Hopper has."""
        if self.on_chip is not None:
            return self.on_chip
        devices = range(torch.cuda.device_count())
        given = (torch.cuda.get_device_properties(k) for k in devices)
        return min((getattr(g, "shared_memory_per_block_optin", 48 * 1024) for g in given), default=227 * 1024)

    @property
    def operations(self) -> Collection[str]:
        from .emit import OPERATIONS

        return OPERATIONS

    def unfit(self, x: torch.Tensor) -> str:
        return self.lacks or super().unfit(x)

    def kernel(
        self,
        step: Step | Phases,
        dtype: torch.dtype,
        hidden_size: int,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None = None,
    ) -> Kernel:
        from ..graph import Step, Unsupported
        from .phased import PhasedKernel
        from .single import SingleKernel

        devices = range(0 if self.interpreted else torch.cuda.device_count())
        capabilities = [torch.cuda.get_device_capability(k) for k in devices]
        if torch.version.hip or min(capabilities, default=(8, 0)) < (8, 0):
            raise Unsupported("the Triton kernel is for CUDA, and GPUs of compute capability 8.0 or more")
        if isinstance(step, Step):
            if step.projected is not None:
                raise Unsupported("the Triton kernel takes a projection as a product among several")
            made = SingleKernel(self, step, dtype, hidden_size, update_mask, keep)
        else:
            made = PhasedKernel(self, step, dtype, sizes, update_mask, keep)
        if capabilities:  # else nothing can be launched either
            made.compile(self.room())
        return made
