"""A step's computation as a graph of expressions, in aten's words: what `trace` writes down, and a target emits."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple


class Unsupported(Exception):
    """A step that cannot be expressed, and why."""


class Node(NamedTuple):
    """An operation and the numbers of its operands; or "leaf" or "const" and what stands there."""

    op: str
    args: tuple


@dataclass
class Graph:
    """Expressions, each written down once, after its operands."""

    nodes: list[Node] = field(default_factory=list)
    _numbers: dict[Node, int] = field(default_factory=dict)

    def add(self, op: str, *args) -> int:
        node = Node(op, args)
        if node not in self._numbers:
            self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return self._numbers[node]

    def const(self, value: float) -> int:
        return self.add("const", repr(float(value)))  # as text, in which nan and -0.0 are equal to themselves alone

    def operands(self, number: int) -> tuple[int, ...]:
        node = self.nodes[number]
        return () if node.op in ("leaf", "const") else node.args

    def reach(self, roots: Collection[int], known: Collection[int] = ()) -> list[int]:
        """The nodes to be computed for `roots`, operands first, if the `known` ones are there already."""
        found, stack = set(), [n for n in roots if n not in known]
        while stack:
            number = stack.pop()
            if number not in found:
                found.add(number)
                stack += [n for n in self.operands(number) if n not in known]
        return sorted(found)


@dataclass(frozen=True)
class Step:
    """A step of a cell and its adjoint, as expressions for one hidden unit of one sequence.

    Leaves: ("wx", gate), ("uh", gate), ("state", k), ("own", name, block) for the cell's further parameters and
    buffers, ("reset",), ("recurrent",) and ("share", k) for the masks; in the adjoint ("d_new", k), the gradient that
    arrives at state k, and ("d_seen",); with a projection ("out",), what it gives, and ("d_out",).
    """

    graph: Graph
    seen: int
    """What the hidden map is given."""
    new: tuple[int, ...]
    """The state after the step; with a projection its first is what is projected."""
    d_seen: int
    """What ("d_seen",) gives to state 0."""
    d_wx: tuple[int, ...]
    d_uh: tuple[int, ...]
    """Of each block of U h + b; empty if the step has no such product."""
    d_state: tuple[int, ...]
    maps_input: bool
    """Whether ("wx", gate) is W x + b itself, whatever the input map goes on to make of it; if not, it is the map's
    result."""
    d_made: tuple[int, ...]
    """Of what the cell makes of each state, before any mask, through the other states too."""
    own: tuple[tuple[str, int], ...]
    """The further parameters and buffers that take part: name, and which block of H elements."""
    d_own: tuple[int, ...]
    """Per unit and sequence, to be added up over the sequences and the steps."""
    projected: int | None = None
    """State 0 after the step, from ("out",)."""
    d_projected: tuple[int, ...] = ()
    """What ("d_out",), the gradient of `projected`, gives to ("out",) and to state 0."""
