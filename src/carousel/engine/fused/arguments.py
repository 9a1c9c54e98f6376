"""What a kernel is called with, in one table: the C++ struct, the ctypes structure and each call follow from it."""

import ctypes
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from torch import Tensor


class Argument(NamedTuple):
    name: str
    what: str
    """Its shape, or its meaning: the legend at the head of the kernel's source."""
    type: str = "const real*"
    count: int | None = None
    """Of an array: how many there are."""


class Signature:
    """Of one pass of a kernel.

    Args:
        arguments: numbers and pointers, in any order.
    """

    def __init__(self, arguments: Sequence[Argument]) -> None:
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

    def fill(self, values: dict[str, int | Tensor | list[Tensor | None] | None]) -> ctypes.Structure:
        """The structure with these values, dense tensors and numbers, by name; a tensor that is None, missing or empty
        is a null pointer. The caller keeps the tensors for as long as the call takes."""
        values = self.nothing | values
        flat = [*self.singles(values), *chain.from_iterable(values[name] or [None] for name in self.arrays)]
        if len(flat) != len(self.structure._fields_):
            raise TypeError(f"the kernel takes {len(self.structure._fields_)} numbers and tensors, got {len(flat)}")
        return self.structure(*[v if v is None or type(v) is int else v.data_ptr() for v in flat])


def signatures(states: int, given: Sequence[Argument], gradients: Sequence[Argument]) -> dict[str, Signature]:
    """Of the forward and the backward pass.

    Args:
        states: how many a cell has.
        given: what the kernel reads besides states and masks.
        gradients: the places for theirs, in the backward pass.
    """
    both = [
        Argument("T", "steps", "long"),
        Argument("B", "sequences", "long"),
        Argument("threads", "at most so many", "long"),
        Argument("team", "threads that share sequences; 0: the kernel chooses", "long"),
        Argument("openmp", "whether torch's own threads may be used", "long"),
        *given,
        Argument("state", "(B, H) each, before the first step", count=states),
        Argument("reset", "(T, B): whether the state is zeroed before the step", "const unsigned char*"),
        Argument(
            "detach_gates", "(T, B): whether no gradient goes back through the hidden map", "const unsigned char*"
        ),
        Argument("detach_carousel", "(T, B): whether none goes back past it", "const unsigned char*"),
        Argument("recurrent", "(B, H): multiplies h on its way into the hidden map"),
        Argument("share", "(T, B, 1 or H) each: how far a state moves to its new value", count=states),
    ]
    forward = [
        Argument("out", "(T, B, H of the first state)", "real*"),
        Argument("saved", "(T, B, ...): what the adjoint needs; null if nothing does", "real*"),
        Argument("last", "(B, H) each, after the last step", "real*", states),
    ]
    backward = [
        Argument("out", "as the forward pass has left it"),
        Argument("saved", "likewise"),
        Argument("d_out", "the gradient of out; null if there is none"),
        Argument("d_last", "those of the last states", count=states),
        *gradients,
        Argument("d_state", "for those of the first states; null if they are not wanted", "real*", states),
        Argument("norms", "(T, B, states): for the squares of their gradients, added to", "double*"),
    ]
    return {"forward": Signature([*both, *forward]), "backward": Signature([*both, *backward])}
