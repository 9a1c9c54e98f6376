"""Tensors without numbers, of which a tracer knows what they stand for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .graph import Graph, Unsupported


class Traced(Tensor):
    """A tensor without numbers: its `label` is (3, *shape), for each element the expression, the unit and the
    sequence, the last two -1 if it belongs to none in particular."""

    label: Tensor
    shares_memory: bool
    product: tuple | None = None
    """The matrix and the bias of the one product that a step may have, and its result."""
    known_as: str | None = None
    """The name of the parameter that it is, or of the result of functions of parameters alone."""
    as_input: tuple | None = None
    """If it is made of the input alone and has met the state: its label then, and what it entered as."""

    @staticmethod
    def __new__(cls, label: Tensor, dtype: torch.dtype, view: bool = False) -> "Traced":
        made: Any = Tensor._make_wrapper_subclass(cls, label.shape[1:], dtype=dtype, device=torch.device("cpu"))
        made.label, made.shares_memory = label, view
        return made

    if TYPE_CHECKING:

        def requires_grad_(self, mode: bool = True) -> Self: ...

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Traced({list(self.shape)})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.linear and isinstance(args[0], Traced) and args[0].product:
            weight, bias, result = args[0].product
            if args[1] is weight and (*args[2:], *(kwargs or {}).values(), None)[0] is bias:
                return result
        mode: Any = _get_current_dispatch_mode()
        if getattr(mode, "across", False) and not mode.backward:
            return mode.called(func, args, kwargs or {})
        return super().__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise Unsupported(f"it uses {func} outside of the trace")


class Part:
    """What each part of a `Tracer` knows of the whole."""

    traced: type[Traced]
    graph: Graph
    dtype: torch.dtype
    vocabulary: frozenset[str]
    forms: Mapping[str, str]
    units: int
    """Of a hidden vector."""
    across: bool
    """Whether products and reductions are written down as well."""
    backward: bool
    """Whether autograd is at work."""
    alone: bool
    computing: bool

    if TYPE_CHECKING:

        def label(self, value: Any) -> Tensor: ...
        def age(self, tensor: Any) -> int: ...
        def tensor(self, name: str, tensor: Tensor, units: int) -> Any: ...
        def parameter(self, name: str) -> Tensor: ...
        def settled(self, tensor: Any) -> Tensor: ...
        def of_parameters(self, func: Any, args: tuple, kwargs: dict) -> Any: ...
        def as_parameters(self, args: tuple, kwargs: dict) -> Any: ...
        def aligned(self, labels: list[Tensor]) -> list[Tensor] | None: ...
        def vector_of(self, label: Tensor) -> Tensor: ...
        def run(self, label: Tensor) -> int: ...
        def runs(self, label: Tensor) -> tuple[tuple, list[int], Tensor]: ...
        def _combine(self, op: str, labels: list[Tensor]) -> Tensor: ...
        def _write(self, func: Any, tensor: Tensor, label: Tensor) -> Tensor: ...
        def _number(self, value: Any) -> Tensor: ...
        def _folded(self, op: str, expressions: list[int]) -> int: ...
