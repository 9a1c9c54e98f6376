"""A step with one product, or none, as functions of Triton.

A program does all steps for some places, a place being a unit of a sequence. There are two forms. "flat": the places
are consecutive, for what is done unit by unit; a product U h is read, if there is one, and then there is one step.
"rows": they are all units of some sequences, and a program multiplies itself, with the weights on its chip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from ..graph import Step
from .emit import FLAGS, is_truth, statements
from .function import BACKWARD, BLOCK, FORWARD, ROWS, Function, padded, real
from .product import Held


class Source:
    """The functions of a step: "forward", "backward", and for steps one by one "look", what the hidden map sees, and
    "join", what of its gradient arrives at the state.

    Args:
        step: without projection.
        dtype: of all numbers.
        units: H.
        update_mask: of each state, as in `Kinds`.
        saved: the nodes that the forward pass keeps.
        product: how a program in rows multiplies; None for the flat form.
        backward: whether there is such a pass.
    """

    def __init__(
        self,
        step: Step,
        dtype: torch.dtype,
        units: int,
        update_mask: Sequence[int],
        saved: tuple[int, ...],
        product: type[Held] | None,
        backward: bool,
    ) -> None:
        self.step, self.units, self.update_mask, self.saved = step, units, update_mask, saved
        self.real = real(dtype)
        self.inputs, self.products, self.states = len(step.d_wx), len(step.d_uh), len(step.new)
        self.product = product(self.products, units, self.real) if product else None
        self.rows = self.product is not None
        functions = [self.forward()]
        functions += [self.backward()] if backward else []
        functions += [self.look(), self.join()] if self.products and not self.rows else []
        self.functions = {function.name: function for function in functions}

    def forward(self) -> Function:
        step, f = self.step, Function("forward", self.real, FORWARD)
        f.lines += self.begin(f)
        states = [f"state{k}" for k in range(self.states)]
        f.lines += [self.load(f, name, name, "at") for name in states]
        f.lines += self.product.begin(f, forward=True) if self.product else []
        roots = [*step.new, *self.saved, *([step.hidden_input] if self.product else [])]
        body, known = self.masks(f, roots, ()), {}
        if self.product:
            lines, known = self.compute([step.hidden_input], known)
            body += [
                *lines,
                f"hidden_input = tl.where(valid, {known[step.hidden_input]}, 0.0)",
                *self.product.forward(f),
            ]
        body += self.inputs_of(f, roots)
        lines, names = self.compute([*step.new, *self.saved], known)
        body += lines
        body += [f"new{k} = tl.where(valid, {names[n]}, 0.0)" for k, n in enumerate(step.new)]
        body += [self.store(f, "out", "at", "new0")]
        if self.saved:
            body += ["if SAVE:"]
            body += [f"    {line}" for line in self.stores(f, "saved", self.saved, names)]
        body += [f"state{k} = new{k}" for k in range(self.states)]
        sizes = {"wx": self.inputs * self.units, "uh": self.products * self.units, "out": self.units}
        body += self.advance(f, sizes | {"saved": len(self.saved) * self.units}, "+=")
        f.lines += ["for t in range(T):", *(f"    {line}" for line in body)]
        f.lines += [self.store(f, f"last{k}", "at", f"state{k}") for k in range(self.states)]
        return f

    def backward(self) -> Function:
        step, f = self.step, Function("backward", self.real, BACKWARD)
        shared = step.d_uh == step.d_wx
        f.lines += self.begin(f)
        f.lines += [self.load(f, f"d{k}", f"carried{k}", "at") for k in range(self.states)]
        f.lines += [self.load(f, f"sum{k}", "d_extra", f"{k} * B * {self.units} + at") for k in range(len(step.extra))]
        f.lines += self.product.begin(f, forward=False) if self.product else []
        gradients = (*step.d_wx, *step.d_uh, *step.d_state, *step.d_extra)
        hidden_input = [step.hidden_input] if self.products else []
        joined = [step.d_hidden_input] if self.product else []
        everything = [*gradients, *step.d_made, *hidden_input]
        body = self.masks(f, [*everything, *joined], self.saved)
        known = {n: f"kept{k}" for k, n in enumerate(self.saved)}
        for k, n in enumerate(self.saved):
            body += [self.load(f, f"kept{k}", "saved", f"(b * {len(self.saved)} + {k}) * {self.units} + unit")]
            body += [f"kept{k} = kept{k} != 0.0"] if is_truth(step.graph, n) else []
        if ("state", 0) in self.leaves(everything, self.saved):
            body += [
                "t = T - 1 - back + tl.full([1], 0, tl.int32)",  # a block, for the interpreter errs in scalar truths
                "earlier = " + f.read(f"{f.pointer('out')} - B * {self.units} + at", "valid & (t > 0)"),
                "first = " + f.read(f"{f.pointer('state0')} + at", "valid & (t == 0)"),
                "state0 = tl.where(t > 0, earlier, first)",
            ]
        body += ["d_new0 = d0", "if D_OUT:", "    d_new0 = d0 + " + self.load(f, "", "d_out", "at")]
        body += [f"d_new{k} = d{k}" for k in range(1, self.states)]
        lines, names = self.compute([*gradients, *hidden_input], known)
        body += lines
        body += self.stores(f, "d_wx", step.d_wx, names)
        if self.products:
            body += [] if shared else self.stores(f, "d_uh", step.d_uh, names)
            body += [self.store(f, "hidden_input", "at", names[step.hidden_input])]
        body += [f"sum{k} += tl.where(valid, {names[n]}, 0.0)" for k, n in enumerate(step.d_extra)]
        lines, all_names = self.compute(step.d_made, names)
        body += ["if NORMS:", *(f"    {line}" for line in [*lines, *self.stores(f, "d_made", step.d_made, all_names)])]
        body += [f"d{k} = tl.where(valid, {names[n]}, 0.0)" for k, n in enumerate(step.d_state)]
        if self.product:
            body += [f"d_uh{g} = tl.where(valid, {names[n]}, 0.0)" for g, n in enumerate(step.d_uh)]
            body += self.product.backward(f, "d_wx" if shared else "d_uh")
            lines, names = self.compute([step.d_hidden_input], names)
            body += [*lines, f"d0 = d0 + tl.where(valid, {names[step.d_hidden_input]}, 0.0)"]
        sizes = {"out": 1, "saved": len(self.saved), "d_out": 1, "d_wx": self.inputs}
        sizes |= {"d_uh": 0 if shared else self.products, "hidden_input": 1, "d_made": self.states}
        sizes = {name: n * self.units for name, n in sizes.items()}
        f.lines += ["last = tl.cast(T - 1, tl.int64)", *self.advance(f, sizes, "+= last *")]
        f.lines += ["for back in range(T):", *(f"    {line}" for line in [*body, *self.advance(f, sizes, "-=")])]
        f.lines += [self.store(f, f"carried{k}", "at", f"d{k}") for k in range(self.states)]
        f.lines += [self.store(f, "d_extra", f"{k} * B * {self.units} + at", f"sum{k}") for k in range(len(step.extra))]
        return f

    def look(self) -> Function:
        f = Function("look", self.real, ())
        f.lines += [*self.begin(f, extra=False), *self.masks(f, [self.step.hidden_input], ())]
        f.lines += [self.load(f, "state0", "state0", "at")]
        lines, names = self.compute([self.step.hidden_input], {})
        f.lines += [*lines, self.store(f, "hidden_input", "at", names[self.step.hidden_input])]
        return f

    def join(self) -> Function:
        f = Function("join", self.real, ())
        f.lines += [*self.begin(f, extra=False), *self.masks(f, [self.step.d_hidden_input], ())]
        f.lines += [self.load(f, "through", "through", "at"), self.load(f, "d0", "carried0", "at")]
        lines, names = self.compute([self.step.d_hidden_input], {})
        f.lines += [*lines, self.store(f, "carried0", "at", f"d0 + {names[self.step.d_hidden_input]}")]
        return f

    def begin(self, f: Function, extra: bool = True) -> list[str]:
        """The program's places, and what holds for all steps."""
        if self.rows:
            lines = [
                f"b = (tl.program_id(0) * {ROWS} + tl.arange(0, {ROWS}))[:, None]",
                f"unit = tl.arange(0, {padded(self.units)})[None, :]",
                f"at = b * {self.units} + unit",
                f"valid = (b < B) & (unit < {self.units})",
            ]
        else:
            lines = [
                f"at = tl.program_id(0) * {BLOCK} + tl.arange(0, {BLOCK})",
                f"b = at // {self.units}",
                f"unit = at % {self.units}",
                f"valid = at < B * {self.units}",
            ]
        if extra:
            mask = f"unit < {self.units}" if self.rows else "valid"
            for k in range(len(self.step.extra)):
                at = f"{f.pointer('extra')} + {k * self.units} + unit"
                lines.append(f"extra{k} = {f.read(at, mask)}")
        return lines

    def leaves(self, roots: Iterable[int], known: Iterable[int]) -> set[tuple]:
        graph = self.step.graph
        nodes = (graph.nodes[n] for n in graph.reach(list(roots), tuple(known)))
        return {node.args for node in nodes if node.op == "leaf"}

    def masks(self, f: Function, roots: Iterable[int], known: Iterable[int]) -> list[str]:
        """Those that are read, of one step. Forwards they are read step by step, backwards from the last on."""
        leaves, H = self.leaves(roots, known), self.units
        there = "b < B" if self.rows else "valid"
        lines = [
            f"{name} = tl.load({f.pointer(name)} + b, mask={there}, other=0) != 0"
            for name in FLAGS
            if (name,) in leaves
        ]
        if ("recurrent",) in leaves:
            lines.append(self.load(f, "recurrent", "recurrent", "at"))
        for k, kind in enumerate(self.update_mask):
            if ("update_mask", k) in leaves:
                place, mask = ("b", there) if kind == 1 else (f"b * {H} + unit", "valid")
                at = f"{f.pointer(f'update_mask{k}')} + {place}"
                lines.append(f"update_mask{k} = {f.read(at, mask)}")
        return lines

    def inputs_of(self, f: Function, roots: Iterable[int]) -> list[str]:
        leaves, H = self.leaves(roots, ()), self.units
        lines = [
            self.load(f, f"wx{g}", "wx", f"(b * {self.inputs} + {g}) * {H} + unit")
            for g in range(self.inputs)
            if ("wx", g) in leaves
        ]
        if self.products and not self.rows:
            lines += [
                self.load(f, f"uh{g}", "uh", f"(b * {self.products} + {g}) * {H} + unit") for g in range(self.products)
            ]
        return lines

    def advance(self, f: Function, sizes: dict[str, int], how: str) -> Iterator[str]:
        """The pointers moved by a step: of what has so many numbers for each sequence, and of the masks."""
        sizes = sizes | dict.fromkeys(FLAGS, 1)
        sizes |= {f"update_mask{k}": 1 if kind == 1 else self.units for k, kind in enumerate(self.update_mask)}
        return (f"p_{name} {how} (B * {n})" for name, n in sizes.items() if name in f.pointers)

    def compute(self, roots: Iterable[int], known: dict[int, str]) -> tuple[list[str], dict[int, str]]:
        def leaf(args: tuple) -> str:
            kind, *which = args
            if kind == "extra":
                return f"extra{self.step.extra.index(tuple(which))}"
            return "through" if kind == "d_hidden_input" else kind + "".join(map(str, which))

        return statements(self.step.graph, roots, known, leaf, self.real)

    def load(self, f: Function, name: str, pointer: str, place: str) -> str:
        return (f"{name} = " if name else "") + f.read(f"{f.pointer(pointer)} + {place}", "valid")

    def store(self, f: Function, pointer: str, place: str, value: str) -> str:
        return f"tl.store({f.pointer(pointer)} + {place}, {value}, mask=valid)"

    def stores(self, f: Function, pointer: str, nodes: Sequence[int], names: dict[int, str]) -> list[str]:
        """Of nodes that stand side by side for each sequence; truth values as numbers."""
        return [
            self.store(
                f,
                pointer,
                f"(b * {len(nodes)} + {k}) * {self.units} + unit",
                f"{names[n]}.to({self.real})" if is_truth(self.step.graph, n) else names[n],
            )
            for k, n in enumerate(nodes)
        ]
