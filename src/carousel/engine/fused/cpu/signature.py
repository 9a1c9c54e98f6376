"""What a C++ function is called with: the struct that it declares, and the ctypes structure, from one table."""

import ctypes
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from ..arguments import Argument

NUMBERS = (
    Argument("T", "steps", "long"),
    Argument("B", "sequences", "long"),
    Argument("threads", "at most so many", "long"),
    Argument("team", "threads that share sequences; 0: the kernel chooses", "long"),
    Argument("openmp", "whether torch's own threads may be used", "long"),
)
"""What every function takes besides the tensors."""


class Signature:
    """Of one pass of a kernel.

    Args:
        arguments: numbers and pointers, in any order, besides `NUMBERS`.
    """

    def __init__(self, arguments: Sequence[Argument]) -> None:
        arguments = [*NUMBERS, *arguments]
        self.arguments = sorted(arguments, key=lambda a: a.count is not None)  # single ones first
        self.nothing: dict = {a.name: [None] * max(1, a.count) for a in arguments if a.count is not None}
        self.nothing |= {a.name: 0 if a.type == "long" else None for a in arguments if a.count is None}
        self.singles = itemgetter(*(a.name for a in arguments if a.count is None))
        self.arrays = [a.name for a in arguments if a.count is not None]
        fields = [
            (f"{a.name}{k}", ctypes.c_long if a.type == "long" else ctypes.c_void_p)
            for a in self.arguments
            for k in range(max(1, a.count or 0))
        ]
        self.structure = type("Arguments", (ctypes.Structure,), {"_fields_": fields})

    @property
    def source(self) -> str:
        """The struct, as C++."""
        lines = [
            f"  {a.type} {a.name}{'' if a.count is None else f'[{max(1, a.count)}]'};  // {a.what}"
            for a in self.arguments
        ]
        return "\n".join(["struct Arguments {", *lines, "};"])

    def fill(self, values: dict[str, Any]) -> ctypes.Structure:
        """The structure with these values, dense tensors and numbers, by name; a tensor that is None, missing or empty
        is a null pointer. The caller keeps the tensors for as long as the call takes."""
        values = self.nothing | values
        flat = [*self.singles(values), *chain.from_iterable(values[name] or [None] for name in self.arrays)]
        if len(flat) != len(self.structure._fields_):
            raise TypeError(f"the kernel takes {len(self.structure._fields_)} numbers and tensors, got {len(flat)}")
        return self.structure(*[v if v is None or type(v) is int else v.data_ptr() for v in flat])
