"""Tensors without numbers, of which a tracer knows what they stand for."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .graph import Unsupported


class Traced(Tensor):
    """A tensor without numbers: its `label` is (3, *shape), for each element the expression, the unit and the
    sequence, the last two -1 if it belongs to none in particular."""

    product: tuple | None = None
    """The matrix and the bias of the one product that a step may have, and its result."""
    known_as: str | None = None
    """The name of the parameter that it is, or of the result of functions of parameters alone."""
    as_input: tuple | None = None
    """If it is made of the input alone and has met the state: its label then, and what it entered as."""

    @staticmethod
    def __new__(cls, label: Tensor, dtype: torch.dtype, view: bool = False) -> "Traced":
        made = Tensor._make_wrapper_subclass(cls, label.shape[1:], dtype=dtype, device="cpu")
        made.label, made.shares_memory = label, view
        return made

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Traced({list(self.shape)})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.linear and isinstance(args[0], Traced) and args[0].product:
            weight, bias, result = args[0].product
            if args[1] is weight and (*args[2:], *(kwargs or {}).values(), None)[0] is bias:
                return result
        mode = _get_current_dispatch_mode()
        if getattr(mode, "across", False) and not mode.backward:
            return mode.called(func, args, kwargs or {})
        return super().__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise Unsupported(f"it uses {func} outside of the trace")
