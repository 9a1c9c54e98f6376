"""Tensors that write down what happens to them, element by element.

A traced tensor holds, for each of its elements, an expression, and the hidden unit and the sequence that the element
belongs to. Elementwise operations make new expressions; what only moves elements about (chunk, cat, view, ...) is done
to these labels themselves. Autograd runs through such tensors as through any. Nothing in here knows what a cell is.
"""

import contextlib
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from .early import Early
from .gather import Gathers
from .graph import Graph, Unsupported
from .labels import holds, units_of
from .once import Once
from .products import DECOMPOSED, PRODUCTS, REDUCTIONS, UNITS, Across, Matrix, Other
from .traced import Traced

MOVES = {
    *("view", "_unsafe_view", "split", "split_with_sizes", "slice", "select", "cat", "stack", "unbind", "expand"),
    *(
        "unsafe_split",
        "unsafe_split_with_sizes",
        "permute",
        "transpose",
        "t",
        "squeeze",
        "unsqueeze",
        "clone",
        "alias",
        "detach",
        "repeat",
        "flip",
        "roll",
        "lift_fresh",
    ),
}
"""Operations that move elements about and do nothing to them."""
COPIES = {"cat", "stack", "clone", "repeat", "flip", "roll", "unsafe_split", "unsafe_split_with_sizes"}
"""Of these, the ones whose result is no view."""
FILLS = dict.fromkeys(("zeros", "zeros_like", "new_zeros", "zero", "_efficientzerotensor"), 0)
FILLS |= dict.fromkeys(("ones", "ones_like", "new_ones"), 1)
FILLS |= dict.fromkeys(("empty", "empty_like", "new_empty"), math.nan)
FILLS |= dict.fromkeys(("full", "full_like", "new_full", "fill", "scalar_tensor"))
OF_TRUTHS = {"mul": "logical_and", "minimum": "logical_and", "add": "logical_or", "maximum": "logical_or"}
"""What arithmetic is on truth values alone."""
OF_INTEGERS = {"add", "sub", "rsub", "mul", "neg", "abs", "sign", "maximum", "minimum", "where"}
"""What floating-point numbers do as integers do, if these are small."""


class Tracer(Across, Early, Gathers, Once, TorchDispatchMode):
    """Writes down the operations on traced tensors of `dtype`: those of the `vocabulary` as they are, and of the rest
    those that torch can decompose."""

    traced = Traced

    def __init__(
        self,
        vocabulary: Collection[str],
        dtype: torch.dtype,
        batch: int,
        units: int = 0,
        forms: Mapping[str, str] | None = None,
    ) -> None:
        """With the `units` of a hidden vector, products and reductions are written down as well; `forms` are those of
        parameters that do not have the one that their size suggests."""
        super().__init__()
        self.graph, self.vocabulary, self.dtype, self.batch = Graph(), frozenset(vocabulary), dtype, batch
        self.backward, self.across, self.forms = False, units > 0, forms or {}
        self.start(units)
        self.start_early()
        self.start_once()

    def leaf(self, *name, units: int, dtype: torch.dtype | None = None) -> Traced:
        """(batch, units), one expression for all; with one unit, the same for each unit that it meets."""
        label = torch.empty(3, self.batch, units, dtype=torch.long)
        label[0] = self.graph.add("leaf", *name, width=units)
        label[1] = units_of(units)
        label[2] = torch.arange(self.batch)[:, None]
        return Traced(label, dtype or self.dtype)

    def blocks_of_leaves(self, name: str, blocks: int, units: int) -> Traced:
        """(batch, blocks * units), an expression for each block."""
        parts = [self.leaf(name, k, units=units).label for k in range(blocks)]
        none = torch.empty(3, self.batch, 0, dtype=torch.long)
        return Traced(torch.cat([none, *parts], -1), self.dtype)

    def constant(self, value: float, shape=(), dtype: torch.dtype | None = None) -> Traced:
        dtype = dtype or self.dtype
        value = torch.tensor(value, dtype=dtype).item()  # rounded as torch rounds it
        label = torch.tensor([self.graph.const(value), -1, -1]).view(3, *[1] * len(shape)).repeat(1, *shape)
        return Traced(self._combine("ne", [label, self.label(0)]) if dtype is torch.bool else label, dtype)

    def label(self, value) -> Tensor:
        if isinstance(value, Traced):
            return value.label
        if not isinstance(value, Tensor):
            return self.constant(value).label
        if value.requires_grad and not value.is_meta:
            raise Unsupported("it reads a tensor that wants a gradient and is no parameter of the cell")
        if value.is_meta and not value.is_floating_point():
            raise Unsupported(f"it reads a tensor of {value.dtype}")
        if value.is_meta or not (value.isnan().all() or (value == value.flatten()[:1]).all()):
            raise Unsupported(f"it reads a tensor of shape {list(value.shape)}, not H numbers of a parameter or buffer")
        return self.constant(value.flatten()[0].item(), value.shape, value.dtype).label

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        op = name if name.startswith("_") else name.rstrip("_")
        if self.computing:
            return self.on_meta_alone(func, args, kwargs)
        if op in FILLS:
            return self._fill(func, args, kwargs)
        given = pytree.tree_leaves((args, kwargs))
        if any(isinstance(t, Matrix) for t in given):
            return self._of_matrix(func, args, kwargs)
        if not any(isinstance(t, Traced) for t in given):
            if func._schema.is_mutable and args[0].is_meta:
                raise Unsupported(f"it uses {func} in place on a buffer")
            return func(*args, **kwargs)
        if op in MOVES:
            return self._move(func, args, kwargs)
        if name == "copy_" and isinstance(args[1], Traced) and args[0].dtype == args[1].dtype:
            return self._write(func, args[0], args[1].label)
        if op in ("slice_backward", "select_backward"):
            return self._part(func, *args)
        if op in ("_to_copy", "convert_element_type"):
            return self._convert(args[0], _dtype_of(func, args, kwargs))
        if self.across and op in PRODUCTS:
            return self.product(func, args, kwargs)
        if self.across and op in REDUCTIONS:
            return self.reduction(op, *args, **kwargs)
        if self.across and op in DECOMPOSED:
            with self:
                return (func.decompose if func._can_decompose() else DECOMPOSED[op])(*args, **kwargs)
        if op in ("sum", "sum_to_size") and self.backward:  # over what a parameter was broadcast to
            return self._sum(*args, **kwargs)
        if op in self.vocabulary or op == "masked_fill":
            return self._elementwise(func, args, kwargs)
        from torch._decomp import decomposition_table

        if func in decomposition_table and op == name:
            with contextlib.suppress(Unsupported), self:
                return decomposition_table[func](*args, **kwargs)
        if func._can_decompose():  # one that is nothing but others
            with self:
                return func.decompose(*args, **kwargs)
        if torch.Tag.pointwise not in func.tags:
            raise Unsupported(f"it uses {func}, which is not elementwise")
        raise Unsupported(f"it uses {func}, which the kernel does not know")

    def _part(self, func, gradient: Traced, sizes, *where) -> Traced:
        """The gradient of a tensor of which a part was taken: zero elsewhere."""
        take = torch.ops.aten.slice if func.overloadpacket.__name__ == "slice_backward" else torch.ops.aten.select
        label = self.constant(0, tuple(sizes)).label.clone()
        for whole, part in zip(label, gradient.label, strict=True):
            take(whole, *where).copy_(part)
        return Traced(label, gradient.dtype)

    def _of_matrix(self, func, args, kwargs):
        op = func.overloadpacket.__name__
        if op in PRODUCTS:
            return self.product(func, args, kwargs)
        names = {t.parameter for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Matrix)}
        (name, *more) = sorted(names)
        if not args[0].is_floating_point():
            raise Unsupported(f"it reads a tensor of {args[0].dtype}")
        if op in self.vocabulary and not self.alone:
            raise Other(name, UNITS)
        if op not in MOVES or more:
            raise Unsupported(f"it uses {func} on {name}, which it may only multiply by")
        if any(isinstance(t, Traced) for t in pytree.tree_leaves((args, kwargs))):
            raise Unsupported(f"it puts {name} together with others")
        args, kwargs = pytree.tree_map(lambda t: t.index if isinstance(t, Matrix) else t, (args, kwargs))
        return pytree.tree_map_only(Tensor, lambda index: Matrix(name, index, self.dtype), func(*args, **kwargs))

    def _move(self, func, args, kwargs):
        def labels(k: int, given):
            if isinstance(given, (tuple, list)):
                return [labels(k, part) for part in given]
            return self.label(given)[k] if isinstance(given, Tensor) else given

        sources = [t for t in (args[0] if isinstance(args[0], (tuple, list)) else args[:1]) if isinstance(t, Traced)]
        view = func.overloadpacket.__name__ not in COPIES
        for source in sources:
            source.shares_memory |= view
        results = [func(*labels(k, args), **kwargs) for k in range(3)]
        one = isinstance(results[0], Tensor)
        parts = [results] if one else zip(*results, strict=True)
        made = [Traced(torch.stack(list(part)), sources[0].dtype, view) for part in parts]
        return made[0] if one else made

    def _fill(self, func, args, kwargs) -> Traced:
        name = func.overloadpacket.__name__
        value = FILLS[name.rstrip("_")]
        if value is None:
            value = kwargs["fill_value"] if "fill_value" in kwargs else args[-1]
        dtype = _dtype_of(func, args, kwargs)
        if name.endswith("_"):
            return self._write(func, args[0], self.constant(value, args[0].shape, dtype).label)
        shape = () if name == "scalar_tensor" else args[1] if name.startswith("new") else args[0]
        return self.constant(value, tuple(shape.shape if isinstance(shape, Tensor) else shape), dtype)

    def _write(self, func, tensor: Tensor, label: Tensor) -> Tensor:
        if not isinstance(tensor, Traced) or tensor.shares_memory:
            raise Unsupported(f"it uses {func} in place on a part of a tensor")
        self.keep_result(tensor)
        tensor.label = label.expand_as(tensor.label)
        return tensor

    def _sum(self, x: Traced, dims=None, keepdim: bool = False, **_) -> Traced:
        """The kernel adds a parameter's gradient up itself: what counts is that all terms are of one expression."""
        dims = [d % x.dim() for d in dims] if dims else list(range(x.dim()))
        label = x.label.clone()
        label[2] = -1
        label[1] = -1 if x.dim() - 1 in dims else label[1]
        for d in sorted(dims, reverse=True):
            first = label.narrow(d + 1, 0, 1)
            if not (label == first).all():
                raise Unsupported("it adds up different expressions")
            label = first if keepdim else first.squeeze(d + 1)
        return Traced(label, x.dtype)

    def _convert(self, x: Traced, dtype: torch.dtype) -> Traced:
        if dtype == x.dtype:
            return Traced(x.label, dtype)
        if dtype is torch.bool:
            return Traced(self._combine("ne", [x.label, self.label(0)]), dtype)
        if not x.dtype.is_floating_point and (dtype == self.dtype or dtype is torch.int64):
            return Traced(self._number(x), dtype)
        raise Unsupported(f"it converts {x.dtype} to {dtype}")

    def _number(self, value) -> Tensor:
        """The label of an operand, as a number if it is a truth value."""
        truth = isinstance(value, Tensor) and value.dtype is torch.bool
        return self._combine("float", [self.label(value)]) if truth else self.label(value)

    def _truth(self, value) -> Tensor:
        if isinstance(value, Tensor) and value.dtype is torch.bool:
            return self.label(value)
        return self._combine("ne", [self.label(value), self.label(0)])

    def _elementwise(self, func, args, kwargs) -> Traced:
        name, operands = func.overloadpacket.__name__, []
        op = name.rstrip("_")
        for k, argument in enumerate(func._schema.arguments):
            value = args[k] if k < len(args) else kwargs.get(argument.name, argument.default_value)
            if isinstance(value, str):
                op += f"_{value}"
            elif argument.name == "decimals":
                op += "_decimals"
            elif value is None and argument.name in ("min", "max"):
                operands.append(-math.inf if argument.name == "min" else math.inf)
            elif isinstance(value, (Tensor, int, float)):
                operands.append(value)
        if op == "masked_fill":
            op, operands = "where", [operands[1], operands[2], operands[0]]
        dtype = _dtype_of(func, args, kwargs)
        together = dtype is torch.bool and all(not isinstance(v, Tensor) or v.dtype is torch.bool for v in operands)
        if together and op in OF_TRUTHS:
            op, operands = OF_TRUTHS[op], operands[:2]
        if op not in self.vocabulary:
            raise Unsupported(f"it uses {func} ({op}), which the kernel does not know")
        if dtype not in (self.dtype, torch.bool) and not (dtype is torch.int64 and op in OF_INTEGERS):
            raise Unsupported(f"it uses {func}, which makes {dtype} here, not {self.dtype}")
        if op.startswith("bitwise") and not together:
            raise Unsupported(f"it uses {func} on numbers")
        if op.startswith(("logical", "bitwise")):
            labels = [self._truth(value) for value in operands]
        elif op == "where" and dtype is torch.bool:
            test, yes, no = (self._truth(value) for value in operands)
            yes = self._combine("logical_and", [test, yes])
            no = self._combine("logical_and", [self._combine("logical_not", [test]), no])
            op, labels = "logical_or", [yes, no]
        elif op == "where":
            labels = [self._truth(operands[0]), *map(self._number, operands[1:])]
        else:
            labels = [self._number(value) for value in operands]
        label = self._power(*labels, operands[1]) if op == "pow" else self._combine(op, labels)
        return self._write(func, args[0], label) if name.endswith("_") else Traced(label, dtype)

    def _power(self, base: Tensor, exponent: Tensor, number) -> Tensor:
        """As torch's, which multiplies and divides where the exponent is one of a few numbers."""
        if isinstance(number, Tensor) or abs(number) not in (0.5, 1, 2, 3) or number == -3:
            return self._combine("pow", [base, exponent])
        if abs(number) == 0.5:
            return self._combine("sqrt" if number > 0 else "rsqrt", [base])
        label = base
        for _ in range(abs(int(number)) - 1):
            label = self._combine("mul", [label, base])
        return label if number > 0 else self._combine("reciprocal", [label])

    def _combine(self, op: str, labels: list[Tensor]) -> Tensor:
        """An operation on all elements: the same few expressions again and again, each made once."""
        dims = max(label.dim() for label in labels)
        padded = [label.view(3, *[1] * (dims - label.dim()), *label.shape[1:]) for label in labels]
        expressions, *places = zip(*torch.broadcast_tensors(*padded), strict=True)
        result = []
        for parts, what in zip(places, ("hidden units", "the sequences of a batch"), strict=True):
            together = torch.stack(parts)
            result.append(together.amax(0))
            if ((together != result[-1]) & (together != -1) & ~holds(together, result[-1])).any():
                if self.across and len(result) == 1 and (vectors := self.aligned(labels)):
                    return self._combine(op, vectors)
                raise Unsupported(f"it mixes {what} other than by the hidden map")
        if all(e.max() == e.min() for e in expressions):
            number = self.graph.add(op, *(int(e.max()) for e in expressions))
            return torch.stack([torch.full_like(result[0], number), *result])
        together = torch.stack(expressions, -1).flatten(0, -2)
        distinct, index = together.unique(dim=0, return_inverse=True)
        numbers = torch.tensor([self.graph.add(op, *row) for row in distinct.tolist()])
        return torch.stack([numbers[index].view(result[0].shape), *result])

    def expressions(self, tensor: Tensor | None, units: int, blocks: int = 1) -> tuple[int, ...]:
        """The expression of each block of units of a result; zero where there is no gradient."""
        if tensor is None:
            return (self.graph.const(0),) * blocks
        if tensor.dtype is not self.dtype:
            raise Unsupported(f"it makes {tensor.dtype} of {self.dtype}")
        label = self.label(tensor)
        if label.size(-1) not in (1, blocks * units):
            raise Unsupported(f"it makes {label.size(-1)} features of {blocks * units}")
        label = label.expand(*label.shape[:-1], blocks * units).reshape(3, -1, blocks, units)
        if self.across:
            label = torch.stack([self.vector_of(label[:, :, k]) for k in range(blocks)], 2) if blocks else label
        numbers, unit, _ = label
        if not (numbers == numbers[:1, :, :1]).all() or not ((unit == units_of(units)) | (unit == -1)).all():
            raise Unsupported("it does not treat all hidden units alike")
        return tuple(numbers[0, :, 0].tolist())

    def shown(self, gates: dict[str, Tensor], units: int, reached: Collection[int]) -> tuple | None:
        """The gates' expressions, by name; None if one of them is not of that form, or reads more than what is
        `reached`."""
        if any(not isinstance(g, Traced) or g.shape != (self.batch, units) for g in gates.values()):
            return None
        try:
            found = tuple((name, self.expressions(g, units)[0]) for name, g in gates.items())
        except Unsupported:
            return None
        further = set(self.graph.reach([n for _, n in found])) - set(reached)
        return None if any(self.graph.nodes[n].op in ("leaf", "product") for n in further) else found

    def gradients(self, outputs, inputs, arriving) -> list[Tensor | None]:
        pairs = [(y, d.expand_as(y)) for y, d in zip(outputs, arriving, strict=True) if y.requires_grad]
        if not pairs:
            return [None] * len(inputs)
        ys, ds = zip(*pairs, strict=True)
        return list(torch.autograd.grad(ys, inputs, ds, allow_unused=True, retain_graph=True))


def _dtype_of(func, args, kwargs) -> torch.dtype:
    """What torch makes of tensors and numbers of such types."""

    def on_meta(value):
        return torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value

    args, kwargs = pytree.tree_map(on_meta, (args, kwargs))
    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs["device"] = "meta"
    return func(*args, **kwargs).dtype
