"""W x + b for all steps, where a cell's kernel reads it and does not make it: by the kernel of a cell without a memory.

A step with one product has it done within its own kernel; this is for those of several, and for maps of a cell's own.
Where torch's products are slower than a kernel's own it takes half of their time, and else about as long.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...cells.cell import Cell, State, with_tensors
from ..eager import Kinds
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
    """A cell's `input_map` of x, (T, B, I), with its parameters and buffers by name."""
    view = with_tensors(cell, tensors)
    if not target.maps or op.is_watched() or x.size(0) * x.size(1) < LEAST:
        return view.input_map(x)
    with _Products(copied=getattr(view.input_map, "__func__", None) is not Cell.input_map):
        return view.input_map(x)


class _Products(TorchFunctionMode):
    """Meanwhile a product by a matrix, for all places at once, is a kernel's; a copy where it may be written into."""

    def __init__(self, copied: bool) -> None:
        super().__init__()
        self.copied = copied

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear and not kwargs and (key := _kernel(*args)):
            return _product(key, self.copied, *args)
        return func(*args, **(kwargs or {}))


def _product(key: str, copied: bool, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    weights = [weight] if bias is None else [weight, bias]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
    state = x.new_zeros(x.size(1), weight.size(0))
    return op.run(key, x, [state], weights, [], save, 0, copied)[0]


def _kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    """The key of the kernel for a product, or "" if it is left to torch."""
    given = [x, weight] if bias is None else [x, weight, bias]
    plain = all(type(t) in (Tensor, nn.Parameter) and t.is_cpu and t.dtype == x.dtype for t in given)
    if not plain or x.dim() != 3 or not x.size(2) or weight.shape[1:] != x.shape[2:]:
        return ""
    from .plans import plan  # which imports this file

    return plan(_cell(weight.size(1), weight.size(0), bias is not None), "cpu", x.dtype, Kinds())[0]


@lru_cache
def _cell(inputs: int, outputs: int, bias: bool) -> InputMap:
    return InputMap(inputs, outputs, bias, device="meta")
