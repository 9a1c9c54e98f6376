"""Products with a cell's matrices, and reductions over the units, as a tracer writes them down."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .graph import Outer, Unsupported
from .labels import segments_of, units_of
from .traced import Part

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv"}
REDUCTIONS = {"sum", "sum_to_size", "amax", "amin"}


def _mean(x: Tensor, dims=None, keepdim: bool = False, **_) -> Tensor:
    total = x.sum(dims, keepdim) if dims else x.sum()
    return total / (x.numel() // total.numel())


def _var_mean(x: Tensor, dims=None, *, correction=None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    dims = list(dims) if dims else list(range(x.dim()))
    mean, count = x.mean(dims, True), math.prod(x.size(d) for d in dims)
    var = (x - mean).square().sum(dims, keepdim) / (count - (1 if correction is None else correction))
    return var, mean if keepdim else mean.view(var.shape)


def _vector_norm(x: Tensor, p=2, dims=None, keepdim: bool = False, **_) -> Tensor:
    if p != 2:
        raise Unsupported(f"it uses the norm of order {p}")
    return x.square().sum(dims, keepdim).sqrt() if dims else x.square().sum().sqrt()


DECOMPOSED = {
    "mean": _mean,
    "var_mean": _var_mean,
    "var": lambda *args, **kwargs: _var_mean(*args, **kwargs)[0],
    "std": lambda *args, **kwargs: _var_mean(*args, **kwargs)[0].sqrt(),
    "linalg_vector_norm": _vector_norm,
}
"""Reductions as others, where torch's own decompositions end in operations of another kind."""


MATRIX, UNITS = "a matrix", "unit by unit"


class Other(Exception):
    """A parameter has turned out to be of another form than it was taken for; `args` has its name and that form."""


class Matrix(Tensor):
    """A parameter or buffer that products read: `index` has, for each element, its number in the parameter."""

    @staticmethod
    def __new__(cls, name: str, index: Tensor, dtype: torch.dtype) -> "Matrix":
        made: Any = Tensor._make_wrapper_subclass(cls, index.shape, dtype=dtype, device=torch.device("cpu"))
        made.parameter, made.index = name, index
        return made

    parameter: str
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    known_as: str | None = None
    """As of a `Traced`."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        mode: Any = _get_current_dispatch_mode()
        if getattr(mode, "across", False) and not mode.backward:
            return mode.called(func, args, kwargs or {})
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Matrix({self.parameter})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise Unsupported(f"it uses {func} outside of the trace")


class Call(NamedTuple):
    """A product in the forward pass: its result, how to lay out a gradient of that as it is read here, and the rest of
    an `Outer` but for the gradients, of which the blocks have so many rows each."""

    result: Tensor | GradientEdge
    arranged: Callable[[Tensor], Tensor]
    heads: int
    operands: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[int, tuple], ...]
    factor: float = 1.0
    """By which the product is multiplied in the result."""


class Affine(NamedTuple):
    """Where a matrix's elements are: of each head (n, rows, columns), in numbers of the parameter's."""

    name: str
    offset: int
    row: int
    column: int
    head: int

    @staticmethod
    def of(name: str, index: Tensor) -> "Affine":
        """From the index (heads, columns, rows).

        Raises:
            Unsupported: the elements are in no order of this kind.
        """
        at = int(index[0, 0, 0])
        head, column, row = (int(index.select(d, 1).flatten()[0]) - at if index.size(d) > 1 else 0 for d in range(3))
        steps = [torch.arange(n) * step for n, step in zip(index.shape, (head, column, row), strict=True)]
        if not (index == at + steps[0][:, None, None] + steps[1][:, None] + steps[2]).all():
            raise Unsupported(f"it multiplies by {name} in an order of its own")
        return Affine(name, at, row, column, head)


class Across(Part):
    """The part of a tracer that writes these down."""

    def start(self, units: int) -> None:
        self.units = units
        self.calls: list[Call] = []
        self.layouts: dict[tuple, list[int]] = {}

    def product(self, func, args: tuple, kwargs: dict):
        op = func.overloadpacket.__name__
        bias, a, b = (None, *args[:2]) if op in ("mm", "bmm", "mv") else args[:3]
        if self.alone:
            raise Unsupported("it multiplies parameters by each other")
        if op == "mv":
            return self._of_vector(a, b)
        for t in (a, b):
            if not isinstance(t, Matrix) and self._is_extra(t):
                raise Other(self._extra_name(t), MATRIX)
        if isinstance(bias, Matrix):
            raise Other(bias.parameter, UNITS)
        if isinstance(a, Matrix) == isinstance(b, Matrix):
            what = "two matrices by each other" if isinstance(a, Matrix) else "by what is no parameter of the cell"
            raise Unsupported(f"it multiplies {what}")
        first = isinstance(a, Matrix)
        matrix = a if first else b
        if not (self.backward or matrix.requires_grad):
            raise Unsupported(f"it multiplies by {matrix.parameter} where no gradient is to reach that")

        def arranged(label: Tensor) -> Tensor:  # (3, ..., rows, columns)
            return label.transpose(-1, -2) if first else label

        label, index = arranged(self.label(b if first else a)), (matrix.index.mT if first else matrix.index)
        if index.dim() == 2:
            index = index.unsqueeze(0)
        made, call = self._product(label.view(3, -1, *label.shape[-2:]), index, matrix.parameter, label.dim() == 3)
        made = arranged(made if label.dim() == 4 else made.squeeze(1))
        if bias is not None:
            for name, factor in (("beta", self.label(bias)), ("alpha", made)):
                if (value := kwargs.get(name, 1)) != 1:
                    factor = self._combine("mul", [factor, self.label(float(value))])
                bias, made = (factor, made) if name == "beta" else (bias, factor)
            made = self._combine("add", [bias, made, self.label(1)])
        result = self.traced(made, self.dtype)
        if not self.backward:
            order = call[0]
            factor = 1.0 if bias is None else float(kwargs.get("alpha", 1))
            self.calls.append(Call(result, lambda label: order(arranged(label)), *call[1:], factor))
        return result

    def _of_vector(self, a, b):
        if not isinstance(b, Matrix):  # a parameter with a number for each unit
            return self.reduction(
                "sum", self.traced(self._combine("mul", [self.label(a), self.label(b)]), self.dtype), -1
            )
        column = Matrix(b.parameter, b.index.unsqueeze(-1), b.dtype)
        made = self.product(torch.ops.aten.mm.default, (a, column), {})
        result = self.traced(made.label.squeeze(-1), self.dtype)
        if not self.backward:
            call = self.calls.pop()
            self.calls.append(call._replace(result=result, arranged=lambda label: call.arranged(label.unsqueeze(-1))))
        return result

    def keep_result(self, tensor: Tensor) -> None:
        """Before a tensor is written to: if it is a product, the gradient of that is that of what it was."""
        for k in [k for k, call in enumerate(self.calls) if call.result is tensor]:
            call = self.calls.pop(k)
            if tensor.requires_grad:
                self.calls.insert(k, call._replace(result=get_gradient_edge(tensor)))

    def _product(self, label: Tensor, index: Tensor, name: str, flat: bool):
        """(3, n, rows, columns) and (n, columns, columns of the result) to (3, n, rows, columns of the result)."""
        firsts = index[:, 0, 0].tolist()
        heads = list(dict.fromkeys(firsts))
        order = sorted(range(len(firsts)), key=lambda k: heads.index(firsts[k]))
        n, (rows, columns) = len(heads), label.shape[2:]
        if len(order) % n or [firsts[k] for k in order] != [h for h in heads for _ in range(len(order) // n)]:
            raise Unsupported(f"it multiplies by {name} in an order of its own")

        def by_heads(label: Tensor) -> Tensor:  # (3, heads, rows, columns)
            label = label.view(3, -1, *label.shape[-2:])[:, order]
            return label.reshape(3, n, -1, label.size(-1))

        place = Affine.of(name, index[[firsts.index(h) for h in heads]])
        operands, lengths, sequence = self.runs(by_heads(label))
        size = index.size(-1)
        key = (n, columns, size, *place)
        known = self.layouts.get((n, size, columns, name, place.offset, place.column, place.row, place.head))
        self.layouts[key] = lengths
        H = self.units
        if known is None:
            known = [H // n] * (size * n // H) if H % n == 0 and size * n % H == 0 else [size]
        parts, blocks, at = [], [], 0
        for length in known:
            weights, column = [], 0
            for k in lengths:
                offset = place.offset + at * place.row + column * place.column
                weights.append((name, offset, place.row, place.column, place.head, k))
                column += k
            width = length * n
            number = self.graph.add("product", tuple(e for e, _ in operands), (n, length, tuple(weights)), width=width)
            unit = units_of(width).view(n, 1, -1).expand(n, sequence.size(1), length)
            parts.append(torch.stack([torch.full_like(unit, number), unit, sequence.unsqueeze(-1).expand_as(unit)]))
            blocks.append((length, tuple(weights)))
            at += length
        made = torch.cat(parts, -1).view(3, len(order), rows, size)[:, torch.tensor(order).argsort()]
        return made, (by_heads, n, operands, tuple(blocks))

    def outer(self, call: Call, gradient: Tensor | None) -> Outer | None:
        """What a product's matrices get, from the gradient of its result."""
        if gradient is None:
            return None
        label, at, found = call.arranged(self.label(gradient)), 0, []
        if call.factor != 1:
            label = self._combine("mul", [label, self.label(call.factor)])
        for length, weights in call.blocks:
            expression = self.run(label[..., at : at + length])
            if self.graph.nodes[expression] != self.graph.nodes[self.graph.const(0)]:
                found.append((expression, length, weights))
            at += length
        return Outer(call.heads, call.operands, tuple(found)) if found else None

    def reduction(self, op: str, x, dims=None, keepdim: bool = False, **_):
        """Over sequences, what a parameter was broadcast to: the kernel adds that up itself. Over units, a node; over
        different expressions, these one after the other."""
        if x.dtype is torch.bool:
            x = self.traced(self._number(x), torch.int64)
        if op == "sum_to_size":
            raise Unsupported("it uses sum_to_size")
        dims = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(x.dim()))
        dims = sorted(d % max(x.dim(), 1) for d in dims)
        label = x.label.clone()
        for d in dims:
            first = label.narrow(d + 1, 0, 1)
            if ((label[2] != label[2].amax(d, keepdim=True)) & (label[2] != -1)).any():
                if not self.backward or op != "sum":
                    raise Unsupported("it mixes the sequences of a batch other than by the hidden map")
                if not (label[:2] == first[:2]).all():
                    raise Unsupported("it adds up different expressions")
                label = first.clone()
                label[2] = -1
        others = [d for d in range(x.dim()) if d not in dims]
        last = label.permute(0, *(d + 1 for d in others), *(d + 1 for d in dims))
        kept = last.shape[1 : 1 + len(others)]
        last = last.reshape(3, math.prod(kept), -1)
        patterns, which = torch.cat([last[0], last[1]], -1).unique(dim=0, return_inverse=True)
        pairs = [self._reduced(op, *pattern.chunk(2)) for pattern in patterns]
        made = torch.stack([*torch.tensor(pairs).view(-1, 2)[which].unbind(-1), last[2].amax(-1)])
        made = made.view(3, *kept)
        for d in dims if keepdim else ():
            made = made.unsqueeze(d + 1)
        return self.traced(made, x.dtype)

    def _reduced(self, op: str, expressions: Tensor, units: Tensor) -> tuple[int, int]:
        """One number of each of these: the expression and the unit of their sum, or of the largest or the smallest."""
        zero, found = self.graph.const(0), {}
        for e, u in zip(expressions.tolist(), units.tolist(), strict=True):
            if op != "sum" or e != zero:
                found.setdefault(u, []).append(e)
        alone = found.pop(-1, [])
        number = [self._folded(op, alone)] if alone or not found else []
        if not found:
            return number[0], -1
        (first, *rest) = (sorted(es) for es in found.values())
        if any(es != first for es in rest):
            raise Unsupported("it adds up different expressions of different units")
        folded, unit = self._folded(op, first), next(iter(found))
        if len(found) > 1:
            folded, unit = self._over(op, folded, torch.tensor(sorted(found)))
        return self._folded(op, [folded, *number]), unit

    def _over(self, op: str, expression: int, units: Tensor) -> tuple[int, int]:
        sign = op == "amin"
        expression = self.graph.add("neg", expression) if sign else expression
        width = self.graph.widths[expression]
        count, place, scale = None, -1, 1
        for n in (n for n in range(1, width) if width % n == 0):
            found = units_of(width).view(n, -1) == units[0]
            if (
                len(units) == width // n
                and found.any()
                and (units == units_of(width).view(n, -1)[found.any(1)][0]).all()
            ):
                count, place = n, int(segments_of(width, n)[int(found.any(1).nonzero()[0]) if n > 1 else 0])
            if n > 1 and len(units) == n and (units == segments_of(width, n)).all():
                count, place, scale = 1, -1, width // n
        if count is None:
            raise Unsupported("it adds up a part of the hidden units")
        made = self.graph.add(op if not sign else "amax", (expression,), count, width=width if count > 1 else 1)
        if scale > 1 and op == "sum":
            made = self.graph.add("div", made, self.graph.const(scale))
        return (self.graph.add("neg", made) if sign else made), place

    def _folded(self, op: str, expressions: list[int]) -> int:
        if not expressions:
            return self.graph.const(0)
        if op == "sum":
            terms = []
            for e in dict.fromkeys(expressions):
                times = expressions.count(e)
                terms.append(e if times == 1 else self.graph.add("mul", e, self.graph.const(times)))
            return reduce(lambda a, b: self.graph.add("add", a, b, self.graph.const(1)), terms)
        both = {"amax": "maximum", "amin": "minimum"}[op]
        return reduce(lambda a, b: self.graph.add(both, a, b), dict.fromkeys(expressions))

    def _is_extra(self, tensor) -> bool:
        if not isinstance(tensor, self.traced):
            return False
        nodes = [self.graph.nodes[n] for n in tensor.label[0].unique().tolist()]
        return all(node.op == "leaf" and node.args[0] == "extra" for node in nodes)

    def _extra_name(self, tensor) -> str:
        return self.graph.nodes[int(tensor.label[0].flatten()[0])].args[1]
