"""A step with one product as a kernel's source."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..arguments import Argument, single
from ..graph import Graph, Step
from ..storage import choose
from .compiled import Compiled
from .emit import CHUNK, FLAGS, Constants, cost, header, is_truth, machine, statement, template
from .signature import Signature

if TYPE_CHECKING:
    from . import CPU

LEAVES = {
    "wx": "u.wx[{0}]",
    "uh": "u.uh[{0}]",
    "state": "u.state[{0}]",
    "update_mask": "u.update_mask[{0}]",
    "d_new": "u.d_new[{0}]",
    **{name: f"u.{name}" for name in (*FLAGS, "recurrent", "d_hidden_input", "out", "d_out")},
}
SIZES = (
    Argument("I", "features of x", "long"),
    Argument("H", "units", "long"),
    Argument("P", "features of h: H without a projection", "long"),
    Argument("x_t", "from one step of x to the next", "long"),
    Argument("x_b", "from one sequence of x to the next", "long"),
)


class SingleKernel(Compiled):
    """Such a step for this target. Of each node that it keeps there are `width` units, H rounded up."""

    def __init__(
        self,
        target: CPU,
        step: Step,
        dtype: torch.dtype,
        hidden_size: int,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None = None,
    ) -> None:
        graph, projected = step.graph, step.projected is not None
        # Gradients that both maps share are kept once; those of U h stand first, those of W x last.
        common = [d for d in dict.fromkeys(step.d_uh) if d in step.d_wx]
        gradients = [
            *(d for d in dict.fromkeys(step.d_uh) if d not in common),
            *common,
            *(d for d in dict.fromkeys(step.d_wx) if d not in common),
        ]
        made = (step.new[0],) if projected else ()
        adjoint = {*gradients, *step.d_state, *step.d_made, *step.d_extra, *made}
        self.saved = choose(graph, step.new, adjoint, _at_hand, cost) if keep is None else keep
        width, registers = machine()
        self.lanes = lanes = width // (8 if dtype == torch.float64 else 4)
        self.maps_input, self.hidden_size, self.output_size = step.maps_input, hidden_size, sizes[0]
        blocks = -(-hidden_size // lanes)
        forward = _tile(blocks, 4 // max(len(step.d_wx), len(step.d_uh)))
        backward = _tile(blocks, 4)
        pad = lcm(forward, backward) * lanes
        self.width = -(-hidden_size // pad) * pad
        self.kept = self.width * len(self.saved)
        uses = {graph.nodes[n].args[0] for n in graph.reach([step.hidden_input]) if graph.nodes[n].op == "leaf"}
        kinds = {node.args[0] for node in graph.nodes if node.op == "leaf"}
        constants: Constants = {
            "GX": (len(step.d_wx), "blocks of H rows in W x"),
            "GU": (len(step.d_uh), "and in U h"),
            "D": (len(gradients), "gradients of these for each unit, equal ones once"),
            "U_COUNT": (len(set(step.d_uh)), "of them U h's, the first ones"),
            "X_FIRST": (len(gradients) - len(set(step.d_wx)), "from which on they are W x's"),
            "X_AT": ([gradients.index(d) for d in step.d_wx], "which is that of each block of W x"),
            "U_AT": ([gradients.index(d) for d in step.d_uh] or [0], "and of U h"),
            "STATES": (len(step.new), "of the cell; the first is h"),
            "UPDATE_MASK": (
                update_mask,
                "of each state, if it has one: 0 no, 1 for all units alike, 2 for each by itself",
            ),
            "EXTRA": (len(step.extra), "extra parameters of H numbers"),
            "SAVED": (len(self.saved), "numbers of each unit and step that the adjoint needs"),
            **{name.upper(): (name in kinds, f"whether there is a mask {name}") for name in (*FLAGS, "recurrent")},
            "HIDDEN_INPUT": (
                bool(uses - {"state"}) and bool(step.d_uh),
                "whether U h is given something else than the old h",
            ),
            "PROJECTED": (projected, "whether h is projected to P numbers"),
            "FORWARD": (forward, "blocks of units in a tile of a product, forwards"),
            "BACKWARD": (backward, "and backwards"),
            "PAD": (lcm(forward, backward), "a multiple of which the blocks of units are"),
            "REGISTERS": (registers, "for vectors, of this CPU"),
            "CHUNK": (CHUNK, "places, each a step of a sequence, of which W x is done at a time"),
        }
        signatures = {which: Signature([*SIZES, *tensors]) for which, tensors in single(len(sizes)).items()}
        text = {name: template(name) for name in ("common", "single", "outer", *signatures)}
        before, after = text["single"].split("// [the cell]\n")
        shared = "\n".join(
            [
                text["common"],
                before,
                *_functions(step, gradients, made, self.saved),
                after,
            ]
        )
        heads = {
            name: f"{header(dtype, lanes, constants, signature.source)}\n{shared}"
            for name, signature in signatures.items()
        }
        sources = {"forward": f"{heads['forward']}\n{text['forward']}"}
        if keep is None:
            sources["backward"] = f"{heads['backward']}\n{text['outer']}\n{text['backward']}"
        super().__init__(target, sources, signatures)

    def call(self, which: str, x: Tensor, given: dict) -> None:
        x = x if self.maps_input and x.stride(-1) == 1 else x.contiguous()
        given |= {"x" if self.maps_input else "wx": x, "H": self.hidden_size, "P": self.output_size}
        x_t, x_b, _ = x.stride()
        super().call(which, x, given | {"I": x.size(2), "x_t": x_t, "x_b": x_b})

    def unpack(self, kept: Tensor) -> list[Tensor]:
        blocks = kept.unflatten(-1, (self.width // self.lanes, len(self.saved), self.lanes))
        return [part.flatten(-2)[..., : self.hidden_size] for part in blocks.unbind(-2)]


def _functions(step: Step, gradients: list[int], made: tuple[int, ...], saved: tuple[int, ...]) -> list[str]:
    def pairs(name: str, numbers) -> list[tuple[str, int]]:
        return [(f"{name}[{k}]", n) for k, n in enumerate(numbers)]

    def function(head: str, outputs: list[tuple[str, int]], stored=()) -> str:
        known = {n: f"bits(kept[{k}])" if is_truth(step.graph, n) else f"kept[{k}]" for k, n in enumerate(stored)}
        return "\n".join([f"INLINE void {head} {{", *_statements(step, outputs, known), "}"])

    def value(name: str, number: int) -> str:
        body = _statements(step, [("vec result", number)], {})
        return "\n".join([f"INLINE vec {name}(const Unit& u) {{", *body, "  return result;", "}"])

    return [
        value("hidden_input", step.hidden_input),
        value("d_hidden_input", step.d_hidden_input),
        function("update(const Unit& u, vec* next, vec* kept)", [*pairs("next", step.new), *pairs("kept", saved)]),
        function(
            "adjoint(const Unit& u, const vec* kept, "
            "vec& made, vec* gradients, vec* before, vec* d_made, vec* d_extra)",
            [
                *(("made", n) for n in made),
                *pairs("gradients", gradients),
                *pairs("before", step.d_state),
                *pairs("d_made", step.d_made),
                *pairs("d_extra", step.d_extra),
            ],
            saved,
        ),
        value("projected", step.graph.const(0) if step.projected is None else step.projected),
        function(
            "d_projected(const Unit& u, vec& to_product, vec& held)",
            [(("to_product", "held")[k], n) for k, n in enumerate(step.d_projected)],
        ),
    ]


def _at_hand(leaf: tuple) -> bool:
    """Whether the adjoint has it without its being stored: h_{t-1} is the output of the step before."""
    return leaf[0] in ("extra", *FLAGS, "recurrent", "update_mask", "d_new", "d_hidden_input") or leaf == ("state", 0)


def _tile(blocks: int, most: int) -> int:
    """Blocks in a tile: as many as wanted, but none for padding alone."""
    return max((n for n in (1, 2, 4) if n <= max(most, 1) and n <= blocks), default=1)


def _statements(step: Step, outputs: list[tuple[str, int]], known: dict[int, str]) -> list[str]:
    graph: Graph = step.graph
    names, lines = dict(known), []
    for number in graph.reach([n for _, n in outputs], known):
        op, args = graph.nodes[number]
        if op == "leaf":
            kind, *which = args
            names[number] = (
                f"u.extra[{step.extra.index(tuple(which))}]" if kind == "extra" else LEAVES[kind].format(*which)
            )
            continue
        expression = statement(graph, number, names.__getitem__)
        names[number] = f"v{len(names)}"
        lines.append(f"  const auto {names[number]} = {expression};")
    return lines + [
        f"  {place} = {f'bits({names[n]})' if is_truth(graph, n) else names[n]};"  # kept as a number's bits
        for place, n in outputs
    ]
