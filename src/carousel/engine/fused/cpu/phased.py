"""A step of several phases as a kernel's source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..arguments import phased
from ..graph import ACROSS, Phases
from ..storage import choose
from .compiled import Compiled
from .emit import CHUNK, Constants, cost, header, machine, template
from .phases import Memory, Output, Pass, Place, put
from .signature import Signature

if TYPE_CHECKING:
    from . import CPU

ACROSS_COST = 1e6
"""Of a product or a reduction, in additions: it is never done again."""


class PhasedKernel(Compiled):
    """Such a step for this target."""

    def __init__(
        self,
        target: CPU,
        step: Phases,
        dtype: torch.dtype,
        hidden_size: int,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None = None,
    ) -> None:
        self.step, self.names = step, step.names
        width, registers = machine()
        self.lanes = width // (8 if dtype == torch.float64 else 4)
        graph = step.graph
        multiplied = [n for o in step.outers for n in (*(e for e, _ in o.operands), *(d for d, _, _ in o.blocks))]
        adjoint = {*step.d_state, *step.d_wx, *step.d_extra, *step.d_made, *multiplied}
        self.saved = keep or ()
        if keep is None:
            self.saved = choose(
                graph, step.new, adjoint, _at_hand, lambda op: cost(op) if op not in ACROSS else ACROSS_COST
            )
        self.extra, self.states, kept = Memory(self.lanes), Memory(self.lanes), Memory(self.lanes)
        extra_at = [self.extra.take(width) for _, _, width in step.extra]
        state_at = [self.states.take(size) for size in sizes]
        saved_at = [kept.take(graph.widths[n]) for n in self.saved]
        self.kept, self.parts = kept.size, [(at, graph.widths[n]) for n, at in zip(self.saved, saved_at, strict=True)]
        inputs, features = [], 0
        for size in step.sizes:
            inputs.append(Place("r.x", features, size, padded=False))
            features += size
        leaves: dict[tuple, Place] = {("wx", j): place for j, place in enumerate(inputs)}
        leaves |= {("extra", *o): Place("extra", at, o[2]) for o, at in zip(step.extra, extra_at, strict=True)}
        leaves["recurrent",] = Place(f"c.recurrent + r.b * {sizes[0]}", 0, sizes[0], padded=False)
        leaves |= {
            ("update_mask", k): Place(f"c.update_mask[{k}] + r.tb * {n}", 0, n, padded=False)
            for k, n in enumerate(size if kind == 2 else 1 for size, kind in zip(sizes, update_mask, strict=True))
        }
        before = {("state", k): Place("r.before", state_at[k], size) for k, size in enumerate(sizes)}

        forward = Pass(graph, self.lanes, self.names, leaves | before)
        outputs = []
        for k, (n, size) in enumerate(zip(step.new, sizes, strict=True)):
            outputs.append(Output(n, size, put(Place("r.next", state_at[k], size))))
            if k == 0:
                outputs.append(Output(n, size, put(Place(f"c.out + r.tb * {size}", 0, size, padded=False))))
        for n, at in zip(self.saved, saved_at, strict=True):
            place = Place("r.kept", at, graph.widths[n])
            outputs.append(Output(n, place.width, f"if (r.kept) {put(place)}"))
        forward.run(outputs)

        copies = [
            (self.names.index(name), block * n, n, at)
            for (name, block, n), at in zip(step.extra, extra_at, strict=True)
        ]

        table = phased(len(sizes), max(1, len(self.names)))
        signatures = {which: Signature(arguments) for which, arguments in table.items()}

        def source(which: Pass, name: str) -> str:
            before, after = template("phased").split("// [the steps]\n")
            constants: Constants = {
                "PARAMETERS": (len(self.names), "that take part"),
                "INPUTS": (features, "numbers of the input that a step reads"),
                "STATES": (len(sizes), "of the cell"),
                "SIZE": (sizes, "units of each"),
                "STATE_AT": (state_at, "where each stands in a row of all of them"),
                "UPDATE_MASK": (
                    update_mask,
                    "of each, if it has one: 0 no, 1 for all units alike, 2 for each by itself",
                ),
                "CARRIED": (self.states.stride, "numbers in a row of the states"),
                "SAVED": (self.kept, "numbers of each step that the adjoint needs"),
                "EXTRA": (self.extra.size, "numbers in the packed vectors"),
                "PACKED": (which.packed, "and in the packed matrices"),
                "OUTER": (which.outer_size, "and in the gradients of these"),
                "SHARED": (int(_overlap(which.outer_pieces)), "whether two of these are of the same numbers"),
                "ROW": (which.memory.stride, "numbers that pass from phase to phase"),
                "RING": (which.ring.stride, "numbers of a step that the gradients of weights are made of"),
                "WORK": (which.work, "multiply-adds in a step of a sequence"),
                "REGISTERS": (registers, "for vectors, of this CPU"),
                "CHUNK": (CHUNK, "places, each a step of a sequence, whose gradients are added up at a time"),
            }
            return "\n".join(
                [
                    header(dtype, self.lanes, constants, signatures[name].source),
                    template("common"),
                    template("outer"),
                    "struct Copy;\nstruct Piece;\n#define BACKWARDS\n" if name == "backward" else "",
                    before.replace("// [the tables]\n", _tables(copies, which)),
                    which.source(name),
                    after,
                ]
            )

        sources = {"forward": source(forward, "forward")}
        if keep is None:
            backward = self._backward(leaves, inputs, state_at, extra_at, saved_at, sizes)
            sources["backward"] = source(backward, "backward")
        super().__init__(target, sources, signatures)

    def call(self, which: str, x: Tensor, given: dict) -> None:
        given["x"] = x = x.contiguous()
        super().call(which, x, given)

    def _backward(self, leaves: dict[tuple, Place], inputs, state_at, extra_at, saved_at, sizes) -> Pass:
        step, graph = self.step, self.step.graph
        arriving = {("d_new", k): Place("r.d", state_at[k], size) for k, size in enumerate(sizes)}
        backward = Pass(
            graph,
            self.lanes,
            self.names,
            leaves | arriving | {("state", 0): Place("r.before", 0, sizes[0], padded=False)},
            {n: Place("r.kept", at, graph.widths[n]) for n, at in zip(self.saved, saved_at, strict=True)},
        )
        backward.outers(step.outers)
        outputs = [
            Output(n, size, put(Place("r.d_before", at, size)))
            for n, at, size in zip(step.d_state, state_at, sizes, strict=True)
        ]
        for n, place in zip(step.d_wx, inputs, strict=True):
            if not place.width:  # the step does not read it
                continue
            outputs.append(Output(n, place.width, f"if (r.d_x) {put(place._replace(base='r.d_x'))}"))
        for n, at, (_, _, size) in zip(step.d_extra, extra_at, step.extra, strict=True):
            add = f"sums[{at}] += {{v}}[0];" if size == 1 else f"put(sums + {at} + i, load(sums + {at} + i) + {{v}});"
            outputs.append(Output(n, size, add))
        for k, (n, size) in enumerate(zip(step.d_made, sizes, strict=True)):
            vector = "first({v}, 1)" if size == 1 else f"first({{v}}, {size} - i)"
            outputs.append(Output(n, size, f"if (norms) norms[row * STATES + {k}] += squares({vector});"))
        backward.run(outputs)
        return backward

    def unpack(self, kept: Tensor) -> list[Tensor]:
        return [kept[..., at : at + width] for at, width in self.parts]


def _at_hand(leaf: tuple) -> bool:
    """Whether the adjoint has it without its being stored."""
    return leaf[0] != "state" or leaf[1] == 0


def _overlap(pieces: list[tuple]) -> bool:
    """Whether the matrices share a number of a parameter."""
    for parameter in {piece[0] for piece in pieces}:
        found = [
            (offset + torch.arange(rows)[:, None] * row + torch.arange(columns) * column).flatten()
            for p, offset, row, column, rows, columns, *_ in pieces
            if p == parameter
        ]
        if torch.cat(found).bincount().max() > 1:
            return True
    return False


def _tables(copies: list[tuple], which: Pass) -> str:
    def table(kind: str, name: str, entries: list[tuple]) -> str:
        shown = ",\n".join(
            f"  {{{', '.join(map(str, entry))}}}" for entry in entries or [(0,) * (4 if kind == "Copy" else 11)]
        )
        return f"constexpr {kind} {name}[] = {{\n{shown}}};\n"

    return (
        table("Copy", "COPIES", copies)
        + table("Piece", "PIECES", which.pieces)
        + table("Piece", "OUTERS", which.outer_pieces)
    )
