"""Functions of Triton as they are written, and the sizes of their programs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from ..arguments import Argument

BLOCK = 128
"""Places of a program, if flat."""
ROWS = 16
"""Sequences of a program, if in rows: what a product of Triton's takes at least."""


def padded(units: int) -> int:
    """Units of a program in rows: a power of two, and what a product takes at least."""
    return max(16, 1 << (units - 1).bit_length())


def real(dtype: torch.dtype) -> str:
    """The type in which tensors of this one are computed with."""
    return "tl.float64" if dtype == torch.float64 else "tl.float32"


@dataclass
class Function:
    """Its lines, and the pointers that it takes."""

    name: str
    real: str
    """The type in which it computes."""
    flags: tuple[str, ...]
    """What is known when it is compiled: whether anything is kept (SAVE), d_out there, norms wanted, and how products
    are rounded."""
    pointers: dict[str, None] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def pointer(self, name: str) -> str:
        self.pointers[name] = None
        return f"p_{name}"

    def read(self, at: str, mask: str) -> str:
        """Numbers, zero where there are none, of whatever type they are."""
        return f"tl.load({at}, mask={mask}, other=0.0).to({self.real})"

    @property
    def text(self) -> str:
        flags = (f"{flag}: tl.constexpr" for flag in self.flags)
        arguments = [*(f"p_{name}" for name in self.pointers), "T", "B", *flags]
        head = f'@triton.jit(do_not_specialize=("T", "B"))\ndef {self.name}({", ".join(arguments)}):'
        return "\n".join([head, *(f"    {line}" for line in self.lines)])


FORWARD, BACKWARD = ("SAVE", "PRECISION"), ("D_OUT", "NORMS", "PRECISION")
"""The flags of these passes."""
POINTERS = {
    "carried": "(B, units) each, the gradients of the states, from step to step",
    "d_extra": "the gradients of extra parameters, of each sequence",
    "d_made": "(T, B, units of all states), the gradients of what the states have become",
    "d_uh": "(T, B, GU * H), the gradients of U h, where they are others than those of W x",
    "d_wx": "(T, B, GX * H), the gradients of W x",
    "multiplied": "(T, B, ...), what the matrices' gradients are made of",
    "scratch": "vectors on their way into a product, and what torch has made of them",
    "hidden_input": "(B, H), what U is multiplied with, or backwards of each step",
    "through": "(B, H), the gradient that comes back through U",
    "uh": "(B, GU * H), the product U h by torch",
    "w_h": "(GU * H, H)",
    "w_t": "(GU, H, H), w_h with its blocks transposed",
}
"""What is at those that `arguments` does not tell of."""


def legend(
    functions: Collection[Function],
    sizes: dict[str, tuple[int, str]],
    arguments: dict[str, list[Argument]],
    parameters: Sequence[str] = (),
) -> str:
    """What a source begins with.

    Args:
        functions: that stand in it.
        sizes: by name the number, and what it counts.
        arguments: of both passes, as `arguments` has them.
        parameters: their names, if they are w0, w1, ...
    """
    known = {a.name: a.what for which in ("backward", "forward") for a in arguments[which]} | POINTERS
    known["w"] = ", ".join(parameters)
    names = dict.fromkeys(pointer.rstrip("0123456789") for f in functions for pointer in f.pointers)
    lines = ["What these functions are for, and where their pointers, as p_x, lead to; T steps of B sequences."]
    lines += [f"{name} = {value}: {words}" for name, (value, words) in sizes.items()]
    lines += [f"{name}: {known[name]}" for name in names]
    return "\n".join(f"# {line}" for line in lines)
