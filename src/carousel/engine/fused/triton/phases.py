"""A step of several products, with sums over units among them, as functions of Triton.

A program has each vector of its sequences as a tile of its own width. A vector that is multiplied goes by way of the
memory, and so do gradients of matrices, which torch makes of what is stored. There are two forms: a program does all
steps, and multiplies as `Streamed` does; or torch multiplies, between the functions of which a step consists then,
"forward0", "forward1", ... and "forward". What these need in common and is no product, each of them makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..graph import ACROSS, Phases, Unsupported
from .between import Between, Columns, factors
from .emit import FLAGS, expression, is_truth
from .function import BACKWARD, FORWARD, ROWS, Function, padded, real
from .product import DEPTH


class PhasesSource:
    """The functions of such a step, "forward" and "backward".

    Args:
        step: of a cell.
        dtype: of all numbers.
        sizes: features of each state.
        update_mask: of each state, as in `Kinds`.
        saved: the nodes that the forward pass keeps.
        backward: whether there is such a pass.
        rows: sequences of a program, if torch multiplies between launches; None if a program does all steps.

    Raises:
        Unsupported: it moves units, or reduces parts of a vector, or one with another function than a sum.
    """

    def __init__(
        self,
        step: Phases,
        dtype: torch.dtype,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        saved: tuple[int, ...],
        backward: bool,
        rows: int | None = None,
    ) -> None:
        self.step, self.update_mask, self.saved = step, update_mask, saved
        self.real = real(dtype)
        self.inputs, self.sizes = Columns(step.sizes), Columns(sizes)
        self.kept = Columns(step.graph.widths[n] for n in saved)
        self.extra = Columns(units for *_, units in step.extra)
        pairs = [pair for outer in step.outers for pair in outer.operands]
        pairs += [(d, height * outer.heads) for outer in step.outers for d, height, _ in outer.blocks]
        self.pairs = tuple(dict.fromkeys(pairs))
        """Expressions of which matrices' gradients are made, and of how many units each."""
        self.multiplied = Columns(units for _, units in self.pairs)
        self.scratch, self.widest = 0, 0
        """Numbers that a step of a sequence leaves in memory, and the widest vector, of both passes."""
        self.rows = rows or ROWS
        graph, roots = step.graph, [*step.new, *saved]
        gradients = [*step.d_state, *step.d_wx, *step.d_extra, *step.d_made, *(n for n, _ in self.pairs)]
        self.between = {"forward": Between(graph, roots, ())} if rows else {}
        if backward and rows:
            self.between["backward"] = Between(graph, gradients, saved)
        functions = []
        for which in ("forward", "backward") if backward else ("forward",):
            turns = len(self.between[which].turns) if self.between else 0
            functions += [getattr(self, which)(k) for k in (*range(turns), None)]
        self.functions = {function.name: function for function in functions}

    def forward(self, turn: int | None) -> Function:
        """The pass, or what of it comes before a turn of torch's."""
        step, w = self.step, self.writer("forward", turn, FORWARD, "t")
        states = range(len(self.sizes.widths))
        begin = [w.load(f"state{k}", f"state{k}", "b", n, 0, n) for k, n in enumerate(self.sizes.widths)]
        if turn is not None:
            return w.prepare(turn, begin, "for t in range(T):")
        w.compute([*step.new, *self.saved])
        for k, (n, size) in enumerate(zip(step.new, self.sizes.widths, strict=True)):
            w.lines.append(f"new{k} = tl.where({w.valid(size)}, {w.names[n]}, 0.0)")
        w.lines.append(w.store("out", self.sizes.widths[0], 0, self.sizes.widths[0], "new0"))
        if self.saved:
            w.lines.append("if SAVE:")
            w.lines += [f"    {line}" for line in w.stores("saved", self.kept, self.saved)]
        w.lines += [f"state{k} = new{k}" for k in states]
        end = [w.store(f"last{k}", n, 0, n, f"state{k}") for k, n in enumerate(self.sizes.widths)]
        sizes = {"x": self.inputs.total, "out": self.sizes.widths[0], "saved": self.kept.total}
        w.lines += self.advance(w.f, sizes, "+=")
        return w.finish(begin, "for t in range(T):", end)

    def backward(self, turn: int | None) -> Function:
        step, w = self.step, self.writer("backward", turn, BACKWARD, "back")
        widths = self.sizes.widths
        begin = [w.load(f"d{k}", f"carried{k}", "b", n, 0, n) for k, n in enumerate(widths)]
        for k, n in enumerate(self.saved):
            w.lines.append(w.load(f"kept{k}", "saved", "b", self.kept.total, self.kept.places[k], self.kept.widths[k]))
            w.lines += [f"kept{k} = kept{k} != 0.0"] if is_truth(step.graph, n) else []
            w.names[n] = f"kept{k}"
        unit, valid = w.unit(widths[0]), w.valid(widths[0])
        place = f"b * {widths[0]} + {unit}"
        w.lines += [
            "t = T - 1 - back + tl.full([1], 0, tl.int32)",  # a block, for the interpreter errs in scalar truths
            "earlier = " + w.f.read(f"{w.f.pointer('out')} - B * {widths[0]} + {place}", f"{valid} & (t > 0)"),
            "first = " + w.f.read(f"{w.f.pointer('state0')} + {place}", f"{valid} & (t == 0)"),
            "state0 = tl.where(t > 0, earlier, first)",
            "d_new0 = d0",
            "if D_OUT:",
            "    " + w.load("d_out", "d_out", "b", widths[0], 0, widths[0]),
            "    d_new0 = d0 + d_out",
            *(f"d_new{k} = d{k}" for k in range(1, len(widths))),
        ]
        if turn is not None:
            return w.prepare(turn, begin, "for back in range(T):")
        sums = list(zip(self.extra.places, self.extra.widths, strict=True))
        begin += [w.load(f"sum{k}", "d_extra", "b", self.extra.total, *place) for k, place in enumerate(sums)]
        w.compute([*step.d_state, *step.d_wx, *step.d_extra, *(n for n, _ in self.pairs)])
        w.lines += w.stores("d_x", self.inputs, step.d_wx)
        w.lines += w.stores("multiplied", self.multiplied, [n for n, _ in self.pairs])
        for k, (n, units) in enumerate(zip(step.d_extra, self.extra.widths, strict=True)):
            w.lines.append(f"sum{k} += tl.where({w.valid(units)}, {w.names[n]}, 0.0)")
        w.compute(step.d_made)
        w.lines += ["if NORMS:", *(f"    {line}" for line in w.stores("d_made", self.sizes, step.d_made))]
        for k, (n, size) in enumerate(zip(step.d_state, widths, strict=True)):
            w.lines.append(f"d{k} = tl.where({w.valid(size)}, {w.names[n]}, 0.0)")
        sizes = {"out": widths[0], "d_out": widths[0], "saved": self.kept.total, "d_x": self.inputs.total}
        sizes |= {"x": self.inputs.total, "multiplied": self.multiplied.total, "d_made": self.sizes.total}
        begin += ["last = tl.cast(T - 1, tl.int64)", *self.advance(w.f, sizes, "+= last *")]
        w.lines += self.advance(w.f, sizes, "-=")
        end = [w.store(f"carried{k}", n, 0, n, f"d{k}") for k, n in enumerate(widths)]
        end += [w.store("d_extra", self.extra.total, *place, f"sum{k}") for k, place in enumerate(sums)]
        return w.finish(begin, "for back in range(T):", end)

    def writer(self, which: str, turn: int | None, flags: tuple[str, ...], counter: str) -> Writer:
        name = which if turn is None else f"{which}{turn}"
        return Writer(self, Function(name, self.real, flags), counter, self.between.get(which))

    def advance(self, f: Function, sizes: dict[str, int], how: str) -> list[str]:
        sizes = sizes | dict.fromkeys(FLAGS, 1)
        pairs = zip(self.update_mask, self.sizes.widths, strict=True)
        sizes |= {f"update_mask{k}": 1 if kind == 1 else size for k, (kind, size) in enumerate(pairs)}
        return [f"p_{name} {how} (B * {n})" for name, n in sizes.items() if name in f.pointers]


class Writer:
    """Writes one function: what a step computes, in `lines`. The steps are counted by `counter`; the products are those
    `between` functions, if there are any."""

    def __init__(self, source: PhasesSource, f: Function, counter: str, between: Between | None) -> None:
        self.source, self.graph, self.f, self.counter, self.between = source, source.step.graph, f, counter, between
        self.names: dict[int, str] = {}
        self.lines: list[str] = []
        self.stored: dict[tuple[int, int], str] = {}
        """Of vectors and how many units of them are in the scratch memory, where."""
        self.widths: set[int] = set()
        self.scratch = 0

    def unit(self, width: int) -> str:
        self.widths.add(width)
        return f"u{width}"

    def valid(self, width: int) -> str:
        self.widths.add(width)
        return f"in{width}"

    def tile(self, width: int) -> int:
        return padded(width) if width > 1 else 1

    def load(self, name: str, pointer: str, row: str, stride: int, place: int, width: int) -> str:
        at = f"{self.f.pointer(pointer)} + {row} * {stride} + {place} + {self.unit(width)}"
        return f"{name} = {self.f.read(at, self.valid(width))}"

    def store(self, pointer: str, stride: int, place: int, width: int, value: str) -> str:
        at = f"{self.f.pointer(pointer)} + b * {stride} + {place} + {self.unit(width)}"
        return f"tl.store({at}, {value}, mask={self.valid(width)})"

    def stores(self, pointer: str, columns: Columns, nodes: Sequence[int]) -> list[str]:
        """Of nodes that stand side by side for each sequence; truth values as numbers."""
        found = []
        for n, place, width in zip(nodes, columns.places, columns.widths, strict=True):
            value = f"{self.names[n]}.to({self.source.real})" if is_truth(self.graph, n) else self.names[n]
            found += [self.store(pointer, columns.total, place, width, value)] if width else []
        return found

    def prepare(self, turn: int, begin: list[str], loop: str) -> Function:
        """The function that makes what torch multiplies in a turn."""
        between: Any = self.between
        self.compute([n for n, _ in between.factors[turn]])
        for n, units in between.factors[turn]:
            place = between.at[n, units]
            self.lines.append(self.store("scratch", between.columns.total, place, units, self.names[n]))
        return self.finish(begin, loop, [])

    def compute(self, roots: Sequence[int]) -> None:
        if self.between:
            self.fetch(roots, self.between)
        for n in self.graph.reach(roots, self.names):
            op, args = self.graph.nodes[n]
            self.names[n] = self.leaf(args) if op == "leaf" else f"v{n}"
            if op == "product":
                self.product(n, args[1])
            elif op == "sum" and args[1] == 1:
                (operand,), width = args[0], self.graph.widths[args[0][0]]
                summed = f"tl.where({self.valid(width)}, {self.names[operand]}, 0.0)"
                self.lines.append(f"v{n} = tl.reduce({summed}, 1, plus, keep_dims=True)")
            elif op in ACROSS:
                raise Unsupported(f"the Triton kernel has no {op} of parts of a vector")
            elif op != "leaf":
                self.lines.append(f"v{n} = {expression(self.graph, n, self.names, self.source.real)}")

    def fetch(self, roots: Sequence[int], between: Between) -> None:
        """Read the products of torch's that are needed."""
        there = {n: place for n, place in between.products.items() if n not in self.names}
        met = self.graph.reach(roots, {*self.names, *there})
        needed = {*roots, *(m for n in met for m in self.graph.operands(n))}
        for n in sorted(needed & there.keys()):
            self.lines.append(self.load(f"v{n}", "scratch", "b", between.columns.total, *there[n]))
            self.names[n] = f"v{n}"

    def leaf(self, args: tuple) -> str:
        kind, *which = args
        name, source = kind + "".join(map(str, which)), self.source
        if kind == "extra":
            parameter, block, units = which
            name = f"extra{source.step.extra.index((parameter, block, units))}"
            at = f"{self.f.pointer(self.weight(parameter))} + {block * units} + {self.unit(units)}"
            self.lines.append(f"{name} = {self.f.read(at, f'{self.unit(units)} < {units}')}")
        elif kind == "wx":
            place, width = source.inputs.places[which[0]], source.inputs.widths[which[0]]
            self.lines.append(self.load(name, "x", "b", source.inputs.total, place, width))
        elif kind in FLAGS:
            self.lines.append(f"{name} = tl.load({self.f.pointer(kind)} + b, mask=b < B, other=0) != 0")
        elif kind == "recurrent":
            size = source.sizes.widths[0]
            self.lines.append(self.load(name, "recurrent", "b", size, 0, size))
        elif kind == "update_mask":
            size = 1 if source.update_mask[which[0]] == 1 else source.sizes.widths[which[0]]
            self.lines.append(self.load(name, name, "b", size, 0, size))
        return name

    def weight(self, name: str) -> str:
        """The pointer to a parameter."""
        return f"w{self.source.step.names.index(name)}"

    def product(self, n: int, what: tuple) -> None:
        """A sum of products of matrices, block by block where there are heads, and vectors."""
        heads, height, matrices = what
        width, pairs = heads * height, factors(self.graph, n)
        new = dict.fromkeys(pair for pair in pairs if pair not in self.stored)
        for m, size in new:
            turn = f"B * ({2 * self.scratch} + ({self.counter} % 2) * {size})"
            where = f"{self.f.pointer('scratch')} + {turn} + b * {size}"
            self.stored[m, size] = where
            self.scratch += size
            self.lines.append(f"tl.store({where} + {self.unit(size)}, {self.names[m]}, mask={self.valid(size)})")
        self.lines += ["tl.debug_barrier()"] if new else []
        self.lines.append(f"v{n} = tl.full([{self.source.rows}, {self.tile(width)}], 0.0, {self.source.real})")
        how, unit = f"input_precision=PRECISION, out_dtype={self.source.real}", self.unit(width)
        for (m, size), (name, offset, row, column, apart, columns) in zip(pairs, matrices, strict=True):
            at = f"{self.f.pointer(self.weight(name))} + {offset} + "
            inside = f"(row < {size}) & ({unit} < {width})"
            if heads == 1:
                at += f"{unit} * {row} + row * {column}"
            else:
                at += f"{unit} % {height} * {row} + row % {columns} * {column} + row // {columns} * {apart}"
                inside += f" & (row // {columns} == {unit} // {height})"
            self.lines += [
                f"for begin in range(0, {size}, {DEPTH}):",
                f"    k = begin + tl.arange(0, {DEPTH})[None, :]",
                f"    row = begin + tl.arange(0, {DEPTH})[:, None]",
                f"    part = {self.f.read(f'{self.stored[m, size]} + k', f'(b < B) & (k < {size})')}",
                f"    w = {self.f.read(at, inside)}",
                f"    v{n} = tl.dot(part, w, v{n}, {how})",
            ]

    def finish(self, begin: list[str], loop: str, end: list[str]) -> Function:
        rows = self.source.rows
        lines = [f"b = (tl.program_id(0) * {rows} + tl.arange(0, {rows}))[:, None]"]
        for width in sorted(self.widths):
            lines.append(f"u{width} = tl.arange(0, {self.tile(width)})[None, :]")
            lines.append(f"in{width} = (b < B) & (u{width} < {width})")
        lines += [*begin, loop, *(f"    {line}" for line in self.lines)]
        lines += ["tl.debug_barrier()"] if self.between else []  # what has been read is written over
        self.f.lines = [*lines, *end]
        self.source.scratch = max(self.source.scratch, self.scratch)
        self.source.widest = max(self.source.widest, *self.widths)
        return self.f
