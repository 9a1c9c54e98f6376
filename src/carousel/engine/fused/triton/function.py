"""Functions of Triton as they are written, and the sizes of their programs."""

from dataclasses import dataclass, field

BLOCK = 128
"""Places of a program, if flat."""
ROWS = 16
"""Sequences of a program, if in rows: what a product of Triton's takes at least."""


def padded(units: int) -> int:
    """Units of a program in rows: a power of two, and what a product takes at least."""
    return max(16, 1 << (units - 1).bit_length())


@dataclass
class Function:
    """Its lines, and the pointers that it takes."""

    name: str
    flags: tuple[str, ...]
    """What is known when it is compiled: whether anything is kept (SAVE), d_out there, norms wanted, and how products
    are rounded."""
    pointers: dict[str, None] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def pointer(self, name: str) -> str:
        self.pointers[name] = None
        return f"p_{name}"

    @property
    def text(self) -> str:
        flags = (f"{flag}: tl.constexpr" for flag in self.flags)
        arguments = [*(f"p_{name}" for name in self.pointers), "T", "B", *flags]
        head = f'@triton.jit(do_not_specialize=("T", "B"))\ndef {self.name}({", ".join(arguments)}):'
        return "\n".join([head, *(f"    {line}" for line in self.lines)])


FORWARD, BACKWARD = ("SAVE", "PRECISION"), ("D_OUT", "NORMS", "PRECISION")
"""The flags of these passes."""
