"""A step's computation as a graph of expressions, in aten's words: what `trace` writes down, and a target emits."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple


class Unsupported(Exception):
    """A step that cannot be expressed, and why."""


ACROSS = ("product", "sum", "amax", "gather")
"""Operations whose results read many units of their operands. Their arguments are (operands, what): of a product the
heads, the rows of each, and of each operand's matrix `(name, offset, row stride, column stride, head stride, columns)`,
in numbers of the parameter's; of a reduction into how many segments the units fall, each reduced by itself; of a
"gather" for each unit where it stands in the operands, one after the other."""


class Node(NamedTuple):
    """An operation and the numbers of its operands; or "leaf" or "const" and what stands there."""

    op: str
    args: tuple


@dataclass
class Graph:
    """Expressions, each written down once, after its operands."""

    nodes: list[Node] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    """Of each node, for how many units it stands; 1 if its value is the same for all that it meets."""
    _numbers: dict[Node, int] = field(default_factory=dict)

    def add(self, op: str, *args, width: int = 1) -> int:
        """The number of this operation, which has the `width` of its operands, if these stand unit by unit."""
        if op == "where" and args[1] == args[2]:  # as of what is detached, which has the same value
            return args[1]
        node = Node(op, args)
        if node not in self._numbers:
            self._numbers[node] = number = len(self.nodes)
            self.nodes.append(node)
            unitwise = () if op in ACROSS else self.operands(number)
            self.widths.append(max([width, *(self.widths[n] for n in unitwise)]))
        return self._numbers[node]

    def const(self, value: float) -> int:
        return self.add("const", repr(float(value)))  # as text, in which nan and -0.0 are equal to themselves alone

    def operands(self, number: int) -> tuple[int, ...]:
        op, args = self.nodes[number]
        return () if op in ("leaf", "const") else args[0] if op in ACROSS else args

    def reach(self, roots: Collection[int], known: Collection[int] = ()) -> list[int]:
        """The nodes to be computed for `roots`, operands first, if the `known` ones are there already."""
        found, stack = set(), [n for n in roots if n not in known]
        while stack:
            number = stack.pop()
            if number not in found:
                found.add(number)
                stack += [n for n in self.operands(number) if n not in known]
        return sorted(found)


class Outer(NamedTuple):
    """The gradient of the matrices of one product, as the step's part in it: what the rows' gradients and the columns'
    operands multiply to, which is to be added up over the sequences and the steps."""

    heads: int
    operands: tuple[tuple[int, int], ...]
    """Expression and units of each."""
    blocks: tuple[tuple[int, int, tuple], ...]
    """For each block of rows, the gradient that arrives there, the rows of a head, and for each operand its matrix, as
    in a node of a product."""


@dataclass(frozen=True)
class Phases:
    """Any step of a cell and its adjoint: expressions with products and reductions among them.

    Leaves: ("wx", j), ("state", k), ("extra", name, block, units), the masks' as in `Step`, and in the adjoint
    ("d_new", k). Other expressions are told apart by the units that they stand for.
    """

    graph: Graph
    inputs: tuple[int, ...]
    """What ("wx", j) stands for: the leaf itself, or what is made of the input alone, for all steps at once."""
    sizes: tuple[int, ...]
    """Units of each of these."""
    new: tuple[int, ...]
    d_state: tuple[int, ...]
    d_made: tuple[int, ...]
    d_wx: tuple[int, ...]
    extra: tuple[tuple[str, int, int], ...]
    """The parameters and buffers that take part unit by unit: name, which block, and of how many units."""
    d_extra: tuple[int, ...]
    outers: tuple[Outer, ...]
    matrices: tuple[str, ...]
    """The parameters and buffers that take part in products within a step."""
    early: tuple[str, ...]
    """Those that take part in what is done for all steps at once."""
    gates: tuple[tuple[str, int], ...] | None
    """What the step shows, by name; None if not all of it is H numbers for each sequence, of what the state is made."""
    once: tuple = ()
    """What is made of parameters and buffers alone, and counts as one of them above: of each a name and a call."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters and buffers that a kernel is given."""
        return tuple(dict.fromkeys([*(name for name, *_ in self.extra), *self.matrices]))


@dataclass(frozen=True)
class Step:
    """A step of a cell and its adjoint, as expressions for one hidden unit of one sequence.

    Leaves: ("wx", gate), ("uh", gate), ("state", k), ("extra", name, block) for the cell's parameters and buffers
    besides those of its maps; ("reset",), ("detach_gates",), ("detach_carousel",), ("recurrent",) and ("update_mask",
    k) for the masks; in the adjoint ("d_new", k), the gradient that arrives at state k, and ("d_hidden_input",); with a
    projection ("out",), what it gives, and ("d_out",).
    """

    graph: Graph
    hidden_input: int
    """What the hidden map is given."""
    new: tuple[int, ...]
    """The state after the step; with a projection its first is what is projected."""
    d_hidden_input: int
    """What ("d_hidden_input",) gives to state 0."""
    d_wx: tuple[int, ...]
    d_uh: tuple[int, ...]
    """Of each block of U h + b; empty if the step has no such product."""
    d_state: tuple[int, ...]
    maps_input: bool
    """Whether ("wx", gate) is W x + b itself, whatever the input map goes on to make of it; if not, it is the map's
    result."""
    d_made: tuple[int, ...]
    """Of what the cell makes of each state, before any mask, through the other states too."""
    extra: tuple[tuple[str, int], ...]
    """Of these parameters and buffers those that take part: name, and which block of H elements."""
    d_extra: tuple[int, ...]
    """Per unit and sequence, to be added up over the sequences and the steps."""
    projected: int | None = None
    """State 0 after the step, from ("out",)."""
    d_projected: tuple[int, ...] = ()
    """What ("d_out",), the gradient of `projected`, gives to ("out",) and to state 0."""
    gates: tuple[tuple[str, int], ...] | None = None
    """As of `Phases`."""
