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
from .elementwise import Elementwise, dtype_of
from .gather import Gathers
from .graph import Graph, Unsupported
from .labels import units_of
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


class Tracer(Across, Early, Elementwise, Gathers, Once, TorchDispatchMode):
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
            return self._convert(args[0], dtype_of(func, args, kwargs))
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

    def _fill(self, func, args, kwargs) -> Tensor:
        name = func.overloadpacket.__name__
        value = FILLS[name.rstrip("_")]
        if value is None:
            value = kwargs["fill_value"] if "fill_value" in kwargs else args[-1]
        dtype = dtype_of(func, args, kwargs)
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
