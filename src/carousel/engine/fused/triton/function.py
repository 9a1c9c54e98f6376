"""Functions of Triton as they are written, and the sizes of their programs."""

from dataclasses import dataclass, field

import torch

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
