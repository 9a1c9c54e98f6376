"""W x + b for all steps, where a cell's kernel reads it and does not make it: by the kernel of a cell without a memory.

A step with one product has it done within its own kernel; this is for those of several. Where torch's products are
slower than a kernel's own it takes half of their time, and else about as long.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ...cells.cell import Cell, State, with_tensors
from ..eager import Kinds
from ..registry import REGISTRY
from . import op
from .target import Target

LEAST = 256
"""Places, each a step of a sequence, beside whose product packing the weights is little."""


class InputMap(Cell):
    """W x + b as a cell's new state."""

    gates, has_hidden_map = ("a",), False

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        return (wx,), {}


def map_input(cell: Cell, x: Tensor, tensors: dict[str, Tensor], target: Target) -> Tensor:
    """A cell's `input_map` of x, (T, B, I), with its parameters by name."""
    if target.maps and type(cell).input_map is Cell.input_map and "input_map" not in cell.__dict__:
        weights = {name: tensors[name] for name in ("weight_ih", "bias_ih") if tensors.get(name) is not None}
        if key := _kernel(x, weights):
            given = [weights[name] for name in REGISTRY.kernels[key].names]
            save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *given))
            state = x.new_zeros(x.size(1), given[0].size(0))
            return op.run(key, x, [state], given, [], save, 0, copied=False)[0]
    return with_tensors(cell, tensors).input_map(x)


def _kernel(x: Tensor, weights: dict[str, Tensor]) -> str:
    """The key of the kernel for this, or "" if it is left to torch."""
    weight = weights.get("weight_ih")
    if op.is_watched() or weight is None or x.size(0) * x.size(1) < LEAST or not x.size(2):
        return ""
    if weight.shape[1:] != x.shape[2:] or any(t.dtype != x.dtype or not t.is_cpu for t in weights.values()):
        return ""
    from .plans import plan  # which imports this file

    return plan(_cell(weight.size(1), weight.size(0), len(weights) > 1), "cpu", x.dtype, Kinds())[0]


@lru_cache
def _cell(inputs: int, outputs: int, bias: bool) -> InputMap:
    return InputMap(inputs, outputs, bias, device="meta")
