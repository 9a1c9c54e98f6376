"""What a step makes of its parameters and buffers alone: told apart while it is traced, and done by torch once, before
all steps."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from .graph import Unsupported
from .labels import units_of
from .products import MATRIX, UNITS, Affine, Matrix
from .traced import Part


@dataclass(frozen=True)
class Named:
    """A parameter, a buffer or the result of a call, among the arguments of a call."""

    name: str


class Constant:
    """A tensor of the step's own, among these arguments."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant) or self.tensor.dtype != other.tensor.dtype:
            return False
        return torch.equal(self.tensor, other.tensor)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Constant({self.tensor.tolist()}, {self.tensor.dtype})"


@dataclass(frozen=True)
class Call:
    """A function of torch's, its arguments, and whether gradients go back through it."""

    function: Callable[..., Any]
    args: tuple
    kwargs: dict
    differentiable: bool = True


Calls = tuple[tuple[str, Call], ...]


def compute(once: Calls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters and buffers by name, and what these calls make of them."""
    found = dict(tensors)

    def value(argument):
        if isinstance(argument, Named):
            return found[argument.name]
        return argument.tensor if isinstance(argument, Constant) else argument

    for name, call in once:
        args, kwargs = pytree.tree_map(value, (call.args, call.kwargs))
        with torch.set_grad_enabled(call.differentiable and torch.is_grad_enabled()):
            found[name] = call.function(*args, **kwargs)
    return found


def names_in(call: Call) -> list[str]:
    return [a.name for a in pytree.tree_leaves((call.args, call.kwargs)) if isinstance(a, Named)]


class Once(Part):
    """The part of a tracer that makes the leaves ("extra", name, block) and the matrices.

    What is made of these by moving elements about stays what it is; what else is made of them alone is a parameter like
    them, `computed` before all steps, as soon as it meets what is not.
    """

    def start_once(self) -> None:
        self.recorded: dict[str, Call] = {}
        self.computed: dict[str, Tensor] = {}
        """What is read in the place of such results."""
        self.on_meta: dict[str, Any] = {}
        self.alone = self.computing = False
        """Whether a function of such tensors alone is being traced, or run on "meta"."""

    def tensor(self, name: str, tensor: Tensor, units: int) -> Any:
        """A parameter or buffer of the cell: blocks of `units` elements, or one element for all units. With products, a
        larger one and one of integers or truth values is a matrix; without, it stays as it is: no elementwise operation
        can read it."""
        blocks, form = max(1, tensor.numel() // units), self.forms.get(name)
        fits = tensor.is_floating_point()
        if self.across and fits:
            others = form == MATRIX or tensor.numel() != blocks * units or blocks > 64
            fits = tensor.dim() < 2 or form == UNITS or not others
            if (tensor.dim() == 1 or form == UNITS) and tensor.numel() % units:  # such as the bias of another product
                blocks, units = 1, tensor.numel()
        if not fits or tensor.numel() not in (1, blocks * units) or blocks > 64:
            if not self.across:
                return tensor
            made = Matrix(name, torch.arange(tensor.numel()).view(tensor.shape), self._dtype(tensor))
            return self.known(made.requires_grad_(tensor.is_floating_point()), name, tensor)
        width = tensor.numel() // blocks
        what = (width,) if self.across else ()
        leaves = [self.graph.add("leaf", "extra", name, k, *what, width=width) for k in range(blocks)]
        label = torch.full((3, tensor.numel()), -1)
        label[0] = torch.tensor(leaves).repeat_interleave(width)
        label[1] = units_of(width).repeat(blocks)
        learnt = tensor.requires_grad if name in self.recorded else isinstance(tensor, nn.Parameter)
        made = self.traced(label.view(3, *tensor.shape), self.dtype).requires_grad_(learnt)
        return self.known(made, name, tensor)

    def _dtype(self, tensor: Tensor) -> torch.dtype:
        """In which a run has such a parameter."""
        return self.dtype if tensor.is_floating_point() else tensor.dtype

    def known(self, made: Any, name: str, like: Tensor) -> Any:
        made.known_as = name
        if name not in self.on_meta:
            on_meta = torch.empty(like.shape, dtype=self._dtype(like), device="meta")
            self.on_meta[name] = on_meta.requires_grad_(isinstance(like, nn.Parameter) and like.is_floating_point())
        return made

    def of_parameters(self, func, args: tuple, kwargs: dict):
        """A function of torch's, of parameters and constants alone."""
        failed, made = None, None
        try:
            self.alone = True
            made = func(*args, **kwargs)
        except Unsupported as error:
            failed = error
        finally:
            self.alone = False
        if in_place(func) and not failed:
            args[0].known_as = None
            return made
        if not failed and not any(isinstance(t, Tensor) for t in pytree.tree_leaves(made)):
            return made
        try:
            name = self._record(func, args, kwargs)
        except Exception:  # whatever torch's function raises without numbers
            if failed:
                raise failed from None
            return made
        return self._standing_for(name, made)

    def _record(self, func, args: tuple, kwargs: dict) -> str:
        args, kwargs = pytree.tree_map_only(Tensor, self._argument, (args, kwargs))
        return self._keep(Call(func, args, kwargs, torch.is_grad_enabled()))

    def _keep(self, call: Call) -> str:
        def value(argument):
            if isinstance(argument, Named):
                return self.on_meta[argument.name]
            return argument.tensor.to("meta") if isinstance(argument, Constant) else argument

        try:
            self.computing = True
            args, kwargs = pytree.tree_map(value, (call.args, call.kwargs))
            given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            versions = [t._version for t in given]
            result = pytree.tree_map_only(Tensor, lambda t: t.to("meta"), call.function(*args, **kwargs))
        finally:
            self.computing = False
        if in_place(call.function) or [t._version for t in given] != versions:
            raise Unsupported("it writes to a parameter")
        name = f"once {len(self.recorded)}"
        self.recorded[name], self.on_meta[name] = call, result
        return name

    def _argument(self, tensor: Any) -> Named | Constant:
        if not isinstance(tensor, (self.traced, Matrix)):
            if tensor.is_meta or tensor.requires_grad:
                raise Unsupported("it reads a tensor that is no parameter of the cell")
            return Constant(tensor)
        if has_functions_of_its_own(tensor):
            raise Unsupported("it has a derivative of its own in what it makes of its parameters")
        if tensor.known_as is None:
            if isinstance(tensor, Matrix):
                raise Unsupported("it writes to a parameter")
            (number,) = tensor.label[0].unique().tolist()
            op, (value,) = self.graph.nodes[number]
            if op != "const":
                raise Unsupported("it reads a tensor that is no parameter of the cell")
            fill = Call(torch.full, (tuple(tensor.shape), float(value)), {"dtype": tensor.dtype})
            tensor.known_as = self._keep(fill)
        return Named(tensor.known_as)

    def _standing_for(self, name: str, made):
        """What stands for a result, if `made`, or its parts, cannot."""
        result = self.on_meta[name]
        if isinstance(result, (tuple, list)):
            parts = [self._keep(Call(operator.getitem, (Named(name), k), {})) for k in range(len(result))]
            return type(result)(self._standing_for(n, made and made[k]) for k, n in enumerate(parts))
        if not isinstance(result, Tensor):
            return result
        if isinstance(made, self.traced) or (isinstance(made, Matrix) and made.requires_grad and _is_affine(made)):
            made.known_as = name
            return made
        return self.parameter(name)

    def parameter(self, name: str) -> Tensor:
        """What is read in the place of a result."""
        if name not in self.computed:
            result = self.on_meta[name]
            if result.is_floating_point() and result.dtype != self.dtype:
                raise Unsupported(f"it makes {result.dtype} of its parameters, not {self.dtype}")
            with _disable_current_modes():
                self.computed[name] = self.tensor(name, result, self.units)
        return self.computed[name]

    def settled(self, tensor: Any) -> Tensor:
        """An operand as it meets what is not made of parameters alone."""
        if isinstance(tensor, Matrix):
            if has_functions_of_its_own(tensor):
                raise Unsupported(f"it has a derivative of its own in what it makes of {tensor.parameter}")
            return tensor
        if not isinstance(tensor, self.traced):
            return self._brought(tensor)
        if not self._is_made(tensor) or tensor.numel() > (tensor.size(-1) if tensor.dim() else 1):
            return tensor
        moved = all(self.graph.nodes[n].op in ("leaf", "const") for n in tensor.label[0].unique().tolist())
        return tensor if moved else self.parameter(str(tensor.known_as))

    def _brought(self, tensor: Tensor) -> Tensor:
        """Numbers that the step's code has brought along, as a parameter, unless they are the same everywhere."""
        plain = tensor.is_floating_point() and not tensor.is_meta and not tensor.requires_grad
        if not plain or torch.promote_types(tensor.dtype, self.dtype) != self.dtype or not tensor.numel():
            return tensor
        if (tensor == tensor.flatten()[0]).all():
            return tensor
        return self.parameter(self._keep(Call(Tensor.to, (Constant(tensor), self.dtype), {})))

    def as_parameters(self, args: tuple, kwargs: dict):
        """Arguments in which what is made of parameters alone is a parameter itself; None if all is so already."""
        leaves, spec = pytree.tree_flatten((args, kwargs))
        found = [self.parameter(t.known_as) if self._is_made(t) else t for t in leaves]
        return None if all(a is b for a, b in zip(found, leaves, strict=True)) else pytree.tree_unflatten(found, spec)

    def _is_made(self, tensor) -> bool:
        """Whether functions of parameters alone have made it, whose derivatives are torch's."""
        return (
            isinstance(tensor, self.traced)
            and tensor.known_as in self.recorded
            and tensor.is_floating_point()
            and not self.age(tensor)
            and not has_functions_of_its_own(tensor)
        )

    def on_meta_alone(self, func, args: tuple, kwargs: dict):
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unsupported(f"it uses {func}, which draws random numbers")
        return func(*args, **kwargs)

    def once(self, names: set[str]) -> Calls:
        """The calls that these results take."""
        needed, calls = set(names), []
        for name in reversed(self.recorded):
            if name in needed:
                calls.insert(0, (name, self.recorded[name]))
                needed.update(names_in(self.recorded[name]))
        return tuple(calls)


def in_place(func) -> bool:
    name = func.__name__
    operators = name.startswith("__i") and name not in ("__invert__", "__index__", "__int__")
    return operators or name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def has_functions_of_its_own(tensor: Tensor) -> bool:
    visited, stack = set(), [tensor.grad_fn]
    while stack:
        function = stack.pop()
        if function is not None and function not in visited:
            visited.add(function)
            stack += [f for f, _ in function.next_functions]
    return any(isinstance(function, BackwardCFunction) for function in visited)


def _is_affine(matrix: Matrix) -> bool:
    if matrix.dim() not in (2, 3):
        return True
    index = matrix.index if matrix.dim() == 3 else matrix.index.unsqueeze(0)
    try:
        Affine.of(matrix.parameter, index)
    except Unsupported:
        return False
    return True
