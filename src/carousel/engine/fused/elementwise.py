"""What is done unit by unit, on numbers, integers and truth values, as torch does it."""

import math

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .graph import Unsupported
from .labels import holds
from .traced import Part, Traced

OF_TRUTHS = {"mul": "logical_and", "minimum": "logical_and", "add": "logical_or", "maximum": "logical_or"}
"""What arithmetic is on truth values alone."""
OF_INTEGERS = {"add", "sub", "rsub", "mul", "neg", "abs", "sign", "maximum", "minimum", "where"}
"""What floating-point numbers do as integers do, if these are small."""


class Elementwise(Part):
    """The part of a tracer that writes down operations on elements."""

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

    def _elementwise(self, func, args, kwargs) -> Tensor:
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
        dtype = dtype_of(func, args, kwargs)
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
        label = self._power(labels[0], labels[1], operands[1]) if op == "pow" else self._combine(op, labels)
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


def dtype_of(func, args, kwargs) -> torch.dtype:
    """What torch makes of tensors and numbers of such types."""

    def on_meta(value):
        return torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value

    args, kwargs = pytree.tree_map(on_meta, (args, kwargs))
    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs["device"] = "meta"
    return func(*args, **kwargs).dtype
