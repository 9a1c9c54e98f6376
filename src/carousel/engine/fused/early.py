"""What a step makes of its input alone: told apart while it is traced, and done by torch for all steps at once."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from .graph import ACROSS, Graph, Phases, Unsupported
from .labels import units_of
from .once import has_functions_of_its_own, in_place
from .products import Matrix
from .traced import Part

NEUTRAL, EARLY, LATE = range(3)
LINEAR = {F.linear: True, torch.matmul: False, Tensor.matmul: False, Tensor.__matmul__: False, torch.mm: False}
"""Functions of an input and a matrix, and whether that has the input's features last."""


def _lstm_cell(x: Tensor, hx, w_ih, w_hh, b_ih=None, b_hh=None) -> tuple[Tensor, Tensor]:
    i, f, g, o = (F.linear(x, w_ih, b_ih) + F.linear(hx[0], w_hh, b_hh)).chunk(4, -1)
    c = f.sigmoid() * hx[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru_cell(x: Tensor, h, w_ih, w_hh, b_ih=None, b_hh=None) -> Tensor:
    (xr, xz, xn), (hr, hz, hn) = F.linear(x, w_ih, b_ih).chunk(3, -1), F.linear(h, w_hh, b_hh).chunk(3, -1)
    n, z = (xn + (xr + hr).sigmoid() * hn).tanh(), (xz + hz).sigmoid()
    return (h - n) * z + n


WHOLE = {
    "lstm_cell": _lstm_cell,
    "gru_cell": _gru_cell,
    "rnn_tanh_cell": lambda x, h, u, w, *b: (F.linear(x, u, *b[:1]) + F.linear(h, w, *b[1:])).tanh(),
    "rnn_relu_cell": lambda x, h, u, w, *b: (F.linear(x, u, *b[:1]) + F.linear(h, w, *b[1:])).relu(),
}
"""Torch's own steps, in which the product of the input is told apart."""


class Early(Part):
    """The part of a tracer that keeps the leaf ("x",), and what is made of it alone, from what depends on the state.

    Where the two meet, the one becomes a leaf ("wx", j), through which no gradient is traced any further; `inputs` has
    the expressions. Products of both side by side are taken apart.
    """

    def start_early(self) -> None:
        self.inputs: list[int] = []
        self.entered: list = []
        """The tensors that consist of such leaves."""
        self.ages: list[int] = []

    def called(self, func, args: tuple, kwargs: dict):
        """A function of torch's, as `Tensor.__torch_function__` is asked for it."""
        with torch._C.DisableTorchFunctionSubclass():
            given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, (self.traced, Matrix))]
            ages = [self.age(t) for t in given]
            if not any(ages):
                return self._without_gradients(self.of_parameters(func, args, kwargs), given)
            args, kwargs = pytree.tree_map_only(Tensor, self.settled, (args, kwargs))
            if LATE in ages and EARLY in ages and func.__name__ not in WHOLE:
                if in_place(func) and self.age(args[0]) == EARLY:
                    if args[0].shares_memory:
                        raise Unsupported(f"it uses {func.__name__} in place on a part of a tensor")
                    made = self._enter(args[0]).clone()  # the leaf itself is nothing to write to
                    func(made, *pytree.tree_map_only(self.traced, self._enter, args[1:]), **kwargs)
                    return args[0].detach_().copy_(made)
                args, kwargs = pytree.tree_map_only(self.traced, self._enter, (args, kwargs))
        if func.__name__ in WHOLE and LATE in ages:
            return WHOLE[func.__name__](*args, **kwargs)
        if func in LINEAR and not kwargs and (apart := self._taken_apart(func, *args)) is not None:
            return apart
        with torch._C.DisableTorchFunctionSubclass():
            try:
                result = func(*args, **kwargs)
            except Unsupported:
                if (others := self.as_parameters(args, kwargs)) is None:
                    raise
                result = func(*others[0], **others[1])
            return result if LATE in ages else self._without_gradients(result, given)

    def _without_gradients(self, result, given: list):
        """A result, of which the labels say so if no gradient goes back through it."""
        if any(t.requires_grad for t in given):
            for made in pytree.tree_leaves(result):
                if isinstance(made, self.traced) and made.is_floating_point() and not made.requires_grad:
                    made.label = self._mapped(made.label, self._detached)
        return result

    def _reads(self, expression: int) -> bool:
        """Whether it is more than constants."""
        return any(self.graph.nodes[n].op == "leaf" for n in self.graph.reach([expression]))

    def _detached(self, expression: int) -> int:
        reads = self._reads(expression)
        return self.graph.add("detach", expression, width=self.graph.widths[expression]) if reads else expression

    def age(self, tensor) -> int:
        if isinstance(tensor, Matrix):
            return NEUTRAL
        for number in range(len(self.ages), len(self.graph.nodes)):
            op, args = self.graph.nodes[number]
            if op == "leaf":
                age = {"extra": NEUTRAL, "x": EARLY}.get(args[0], LATE)
            else:
                age = max((self.ages[n] for n in self.graph.operands(number)), default=NEUTRAL)
            self.ages.append(age)
        return max((self.ages[e] for e in tensor.label[0].unique().tolist()), default=NEUTRAL)

    def _mapped(self, label: Tensor, change) -> Tensor:
        distinct, index = label[0].unique(return_inverse=True)
        return torch.stack([torch.tensor([change(e) for e in distinct.tolist()])[index], *label[1:]])

    def _enter(self, tensor):
        if self.age(tensor) != EARLY:
            return tensor
        if tensor.as_input is None or tensor.as_input[0] is not tensor.label:
            if has_functions_of_its_own(tensor):
                raise Unsupported("it has a derivative of its own in what it makes of the input")
            if tensor.dtype is torch.int64:
                raise Unsupported("it makes integers of the input")
            label = self._mapped(self._number(tensor), self._input)
            if tensor.dtype is torch.bool:
                entered = self.traced(self._combine("ne", [label, self.label(0)]), torch.bool)
            else:
                entered = self.traced(label, self.dtype).requires_grad_()
                self.entered.append(entered)
            tensor.as_input = tensor.label, entered
        return tensor.as_input[1]

    def _input(self, expression: int) -> int:
        if not self._reads(expression):
            return expression
        if expression not in self.inputs:
            self.inputs.append(expression)
        number = self.inputs.index(expression)
        return self.graph.add("leaf", "wx", number, width=self.graph.widths[expression])

    def _taken_apart(self, func, features, matrix: Any, *bias):
        if not isinstance(features, self.traced) or features.dim() < 1 or matrix.dim() != 2 or features.size(-1) < 2:
            return None
        nodes = [self.graph.nodes[e] for e in features.label[0].flatten(0, -2)[0].tolist()] if features.numel() else []
        early = [node.op == "leaf" and node.args[0] == "wx" for node in nodes]
        if all(early) or not any(early):
            return None
        parts, starts = [], [k for k in range(len(early)) if k == 0 or early[k] != early[k - 1]]
        for at, end in zip(starts, [*starts[1:], len(early)], strict=True):
            part, weights = features.narrow(-1, at, end - at), matrix.narrow(1 if LINEAR[func] else 0, at, end - at)
            if early[at]:
                label = self._mapped(part.label, lambda e: self.inputs[self.graph.nodes[e].args[1]])
                part: Any = self.traced(label, self.dtype).requires_grad_()
            parts.append(func(part, weights, *bias))
            bias = ()
        return sum(parts[1:], parts[0])

    def d_inputs(self, gradients: list) -> list[int]:
        """Of each input, from those of `entered`."""
        found: list[list[int]] = [[] for _ in self.inputs]
        for entered, gradient in zip(self.entered, gradients, strict=True):
            if gradient is None:
                continue
            here, label = entered.label, self.label(gradient).expand(3, *entered.shape)
            for e in here[0].unique().tolist():
                if self.graph.nodes[e].op != "leaf":
                    continue
                arriving, right, width = label[:, here[0] == e], here[1][here[0] == e], self.graph.widths[e]
                order = right[:width].argsort()
                ordered = units_of(width)[order.argsort()]
                if width > 1 and torch.equal(right, ordered.repeat(len(right) // width)):
                    arriving = self.vector_of(arriving.view(3, -1, width)[..., order]).flatten(1)
                    right = right.view(-1, width)[:, order].flatten()
                numbers, unit, _ = arriving
                if not (numbers == numbers[0]).all() or not ((unit == right) | (unit == -1)).all():
                    raise Unsupported("it does not treat all hidden units alike")
                found[self.graph.nodes[e].args[1]].append(numbers[0].item())
        zero = self.graph.const(0)
        return [self._folded("sum", [n for n in numbers if n != zero]) for numbers in found]


def overloads(step: Phases) -> dict[int, tuple]:
    """Of the nodes that `evaluate` computes, the functions of torch's."""
    graph, found = step.graph, {}
    for number in graph.reach(step.inputs):
        op, operands = graph.nodes[number].op, graph.operands(number)
        if op not in ("leaf", "const", "float", "detach", *ACROSS):
            found[number] = _overload(op, tuple(graph.nodes[n].op != "const" for n in operands))
    return found


def evaluate(step: Phases, functions: dict[int, tuple], x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The step's inputs, of x (T, B, I): (T, B, features), one after the other.

    `functions` are the step's `overloads`.
    """
    graph, values = step.graph, {}
    wanted = [(e, size) for e, size in zip(step.inputs, step.sizes, strict=True) if size]
    for number in graph.reach([e for e, _ in wanted]):
        if number not in values:
            values |= _evaluated(graph, number, functions.get(number), values, x, tensors)
    return torch.cat([x[..., :0], *(values[e].expand(*x.shape[:-1], size) for e, size in wanted)], -1)


def _evaluated(
    graph: Graph, number: int, function: Any, values: dict, x: Tensor, tensors: dict[str, Tensor]
) -> dict[int, Any]:
    op, args = graph.nodes[number]
    if op == "leaf" and args[0] == "x":
        return {number: x}
    if op == "leaf":
        _, name, block, width = args
        return {number: tensors[name].reshape(-1)[block * width : (block + 1) * width]}
    if op == "const":
        return {number: float(args[0])}
    given = [values[n] for n in graph.operands(number)]
    if op == "product":
        return _product(graph, number, given, tensors)
    if op in ("sum", "amax"):
        made = given[0].unflatten(-1, (args[1], -1))
        made = (made.sum(-1, keepdim=True) if op == "sum" else made.amax(-1, keepdim=True)).expand_as(made).flatten(-2)
        return {number: made if args[1] > 1 else made[..., :1]}
    if op == "gather":
        parts = zip(args[0], given, strict=True)
        wide = [torch.as_tensor(v, dtype=x.dtype).expand(*x.shape[:-1], graph.widths[n]) for n, v in parts]
        return {number: torch.cat(wide, -1)[..., list(args[1])]}
    if op in ("float", "detach"):
        return {number: given[0].to(x.dtype) if op == "float" else given[0].detach()}
    overload, names = function
    return {number: _call(overload, names, given, x)}


def _product(graph: Graph, number: int, given: list, tensors: dict[str, Tensor]) -> dict[int, Tensor]:
    """The blocks of one matrix at once, if they stand there one after the other."""
    operands, (heads, rows, weights) = graph.nodes[number].args
    numbers, offset = [number], 0
    for later in range(number + 1, len(graph.nodes)):
        offset = len(numbers) * rows
        moved = tuple((name, at + offset * row, row, *rest) for name, at, row, *rest in weights)
        if heads == 1 and graph.nodes[later] == ("product", (operands, (heads, rows, moved))):
            numbers.append(later)
    total: Any = 0
    for value, (name, at, row, column, head, columns) in zip(given, weights, strict=True):
        shape, strides = (heads, rows * len(numbers), columns), (head, row, column)
        matrix = tensors[name]
        if matrix.dim() == 2 and heads == 1 and (row, column) == (matrix.size(1), 1):
            matrix = matrix[at // row :, at % row : at % row + columns][: shape[1]].unsqueeze(0)
        else:
            matrix = matrix.contiguous().as_strided(shape, strides, at)
        value = value.expand(*value.shape[:-1], heads * columns)
        if heads == 1:
            total = total + F.linear(value, matrix[0])
        else:
            total = total + torch.einsum("...hk,hnk->...hn", value.unflatten(-1, (heads, -1)), matrix).flatten(-2)
    return dict(zip(numbers, total.split(rows * heads, -1), strict=True))


def _call(overload: Any, names: tuple, given: list, x: Tensor) -> Tensor:
    values, positional, keywords = iter(given), [], {}
    for name, kind, keyword in names:
        value = next(values) if name != "rounding_mode" else kind
        if name != "rounding_mode" and kind and not isinstance(value, Tensor):
            value = x.new_tensor(value)
        if keyword:
            keywords[name] = value
        else:
            positional.append(value)
    return overload(*positional, **keywords)


def _overload(op: str, tensors: tuple[bool, ...]):
    """The overload that takes a tensor wherever one is given, and of each argument its name, whether it takes a tensor,
    and whether by name alone."""
    rounding = op.removeprefix("div_") if op in ("div_floor", "div_trunc") else None
    packet = getattr(torch.ops.aten, "div" if rounding else op)
    for overload in (getattr(packet, name) for name in packet.overloads()):
        schema = overload._schema
        arguments = [a for a in schema.arguments if "str" not in str(a.type) and "bool" not in str(a.type)]
        takes = tuple("Tensor" in str(a.type) for a in arguments)
        if any(a.is_out for a in schema.arguments) or len(takes) != len(tensors):
            continue
        if rounding and all(a.name != "rounding_mode" for a in schema.arguments):
            continue
        if all(takes[k] for k, given in enumerate(tensors) if given):
            names = [(a.name, t, a.kwarg_only) for a, t in zip(arguments, takes, strict=True)]
            return overload, (*names, *([("rounding_mode", rounding, True)] if rounding else ()))
    raise Unsupported(f"torch has no {op} of these operands")
