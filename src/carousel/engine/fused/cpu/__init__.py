"""The CPU as a target: a step's expressions as C++, in the loops that are written out in `*.hpp`.

To teach it an operation, add a line to `OPERATIONS`.
"""

from importlib.resources import files
from math import lcm

import torch

from ..graph import Graph, Step
from ..storage import choose

OPERATIONS = {
    "add": "{0} + {2} * {1}",
    "sub": "{0} - {2} * {1}",
    "rsub": "{1} - {2} * {0}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "reciprocal": "1 / {0}",
    "addcmul": "{0} + {3} * ({1} * {2})",
    "lerp": "{0} + {2} * ({1} - {0})",
    "abs": "abs({0})",
    "sgn": "sign({0})",
    "sign": "sign({0})",
    "sqrt": "sqrt({0})",
    "rsqrt": "1 / sqrt({0})",
    "exp": "exp({0})",
    "log": "EACH(std::log, {0})",
    **{name: f"EACH(std::{name}, {{0}})" for name in ("exp2", "expm1", "log1p", "log2", "log10", "erf", "erfc")},
    **{name: f"EACH(std::{name}, {{0}})" for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    **{name: f"EACH(std::{name}, {{0}})" for name in ("sinh", "cosh", "asinh", "acosh", "atanh")},
    **{name: f"EACH(std::{name}, {{0}})" for name in ("floor", "ceil", "trunc")},
    **{name: f"EACH(std::{name}, {{0}}, {{1}})" for name in ("pow", "fmod", "hypot", "atan2")},
    "round": "EACH(std::nearbyint, {0})",  # half to even
    "remainder": "remainder({0}, {1})",
    "div_floor": "floor_divide({0}, {1})",
    "div_trunc": "EACH(std::trunc, {0} / {1})",
    "fmax": "where(isnan({0}) | ({1} > {0}), {1}, {0})",
    "fmin": "where(isnan({0}) | ({1} < {0}), {1}, {0})",
    **{f"{name}_backward": "where(abs({1}) <= {2}, vec{{}}, {0})" for name in ("softshrink", "hardshrink")},
    "copysign": "copysign({0}, {1})",
    "sigmoid": "sigmoid({0})",
    "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "tanh": "tanh({0})",
    "tanh_backward": "{0} * (1 - {1} * {1})",
    "hardsigmoid_backward": "where(({1} > -3) & ({1} < 3), {0} * real(1.0f / 6), vec{{}})",  # so rounded in torch
    "relu": "max({0}, vec{{}})",
    "threshold_backward": "where({1} > {2}, {0}, vec{{}})",
    "silu": "{0} * sigmoid({0})",
    "softplus": "where({0} * {1} > {2}, {0}, EACH(std::log1p, exp({0} * {1})) / {1})",
    "softplus_backward": "where({1} * {2} > {3}, {0}, {0} * sigmoid({1} * {2}))",
    "maximum": "max({0}, {1})",
    "minimum": "min({0}, {1})",
    "clamp": "min(max({0}, {1}), {2})",
    "clamp_min": "max({0}, {1})",
    "clamp_max": "min({0}, {1})",
    "where": "where({0}, {1}, {2})",
    "float": "truth({0})",
    "isnan": "isnan({0})",
    "isinf": "abs({0}) == INFINITY",
    "isposinf": "{0} == INFINITY",
    "isneginf": "{0} == -INFINITY",
    "signbit": "bits({0}) < 0",
    **{name: f"{{0}} {sign} {{1}}" for name, sign in {"eq": "==", "ne": "!=", "lt": "<", "le": "<="}.items()},
    **{name: f"{{0}} {sign} {{1}}" for name, sign in {"gt": ">", "ge": ">="}.items()},
    **{f"{kind}_and": "{0} & {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_or": "{0} | {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_xor": "{0} ^ {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_not": "~{0}" for kind in ("logical", "bitwise")},
}
"""aten's operations, by name, as C++ of vectors. The operands are numbered as in aten's schema."""

LEAVES = {
    "wx": "u.wx[{0}]",
    "uh": "u.uh[{0}]",
    "state": "u.state[{0}]",
    "share": "u.share[{0}]",
    "d_new": "u.d_new[{0}]",
    **{name: f"u.{name}" for name in ("reset", "recurrent", "d_seen", "out", "d_out")},
}
PASSES = ("forward", "backward")
CHUNK = 128
"""Places (a step of a sequence) of which W x and the weights' gradients are done at a time."""


def machine() -> tuple[int, int]:
    """Bytes of a vector, and how many vector registers there are."""
    return {"AVX512": (64, 32), "AVX2": (32, 16)}.get(torch.backends.cpu.get_cpu_capability(), (16, 32))


def cost(op: str) -> float:
    """Of an operation, in additions."""
    for part, price in (("EACH", 100.0), ("exp(", 12.0), ("sigmoid(", 12.0), ("tanh(", 12.0), ("/", 8.0)):
        if part in OPERATIONS[op]:
            return price
    return 1.0


class Kernel:
    """A step for this target.

    `sources` are those of the two passes. `saved` are the nodes that the forward pass keeps, each for `width` units, H
    rounded up.
    """

    def __init__(self, step: Step, dtype: torch.dtype, hidden_size: int, share: tuple[int, ...]) -> None:
        graph, projected = step.graph, step.projected is not None
        # Gradients that both maps share are kept once; those of U h stand first, those of W x last.
        common = [d for d in dict.fromkeys(step.d_uh) if d in step.d_wx]
        gradients = [
            *(d for d in dict.fromkeys(step.d_uh) if d not in common),
            *common,
            *(d for d in dict.fromkeys(step.d_wx) if d not in common),
        ]
        made = (step.new[0],) if projected else ()
        adjoint = {*gradients, *step.d_state, *step.d_made, *step.d_own, *made}
        self.saved = choose(graph, step.new, adjoint, _at_hand, cost)
        width, registers = machine()
        lanes = width // (8 if dtype == torch.float64 else 4)
        blocks = -(-hidden_size // lanes)
        forward = _tile(blocks, 4 // max(len(step.d_wx), len(step.d_uh)))
        backward = _tile(blocks, 4)
        pad = lcm(forward, backward) * lanes
        self.width = -(-hidden_size // pad) * pad
        uses = {graph.nodes[n].args[0] for n in graph.reach([step.seen]) if graph.nodes[n].op == "leaf"}
        constants = {
            "GX": len(step.d_wx),
            "GU": len(step.d_uh),
            "D": len(gradients),
            "DU": len(set(step.d_uh)),
            "D_X": len(gradients) - len(set(step.d_wx)),
            "STATES": len(step.new),
            "OWN": len(step.own),
            "SAVED": len(self.saved),
            "FORWARD": forward,
            "BACKWARD": backward,
            "PAD": lcm(forward, backward),
            "REGISTERS": registers,
            "CHUNK": CHUNK,
        }
        kinds = {node.args[0] for node in graph.nodes if node.op == "leaf"}
        flags = {
            "RESET": "reset" in kinds,
            "RECURRENT": "recurrent" in kinds,
            "SEEN": bool(uses - {"state"}) and bool(step.d_uh),
            "PROJECTED": projected,
        }
        arrays = {
            "X_AT": [gradients.index(d) for d in step.d_wx],
            "U_AT": [gradients.index(d) for d in step.d_uh] or [0],
            "SHARE": share,
        }
        text = {name: files(__package__).joinpath(f"{name}.hpp").read_text() for name in ("vector", "common", *PASSES)}
        before, after = text["common"].split("// [the cell]\n")
        shared = "\n".join(
            [
                f"using real = {'double' if dtype == torch.float64 else 'float'};",
                f"constexpr int WIDTH = {lanes};",
                text["vector"],
                *(f"constexpr long {name} = {value};" for name, value in constants.items()),
                *(f"constexpr bool {name} = {str(value).lower()};" for name, value in flags.items()),
                *(f"constexpr int {name}[] = {{{', '.join(map(str, values))}}};" for name, values in arrays.items()),
                before,
                *_functions(step, gradients, made, self.saved),
                after,
            ]
        )
        self.sources = {name: f"{shared}\n{text[name]}" for name in PASSES}


def _functions(step: Step, gradients: list[int], made: tuple[int, ...], saved: tuple[int, ...]) -> list[str]:
    def pairs(name: str, numbers) -> list[tuple[str, int]]:
        return [(f"{name}[{k}]", n) for k, n in enumerate(numbers)]

    def function(head: str, outputs: list[tuple[str, int]], stored=()) -> str:
        known = dict(zip(stored, (f"kept[{k}]" for k in range(len(stored))), strict=True))
        return "\n".join([f"INLINE void {head} {{", *_statements(step, outputs, known), "}"])

    def value(name: str, number: int) -> str:
        body = _statements(step, [("vec result", number)], {})
        return "\n".join([f"INLINE vec {name}(const Unit& u) {{", *body, "  return result;", "}"])

    return [
        value("seen", step.seen),
        value("d_seen", step.d_seen),
        function("update(const Unit& u, vec* next, vec* kept)", [*pairs("next", step.new), *pairs("kept", saved)]),
        function(
            "adjoint(const Unit& u, const vec* kept, vec& made, vec* gradients, vec* before, vec* total, vec* own)",
            [
                *(("made", n) for n in made),
                *pairs("gradients", gradients),
                *pairs("before", step.d_state),
                *pairs("total", step.d_made),
                *pairs("own", step.d_own),
            ],
            saved,
        ),
        value("projected", step.projected if made else step.graph.const(0)),
        function(
            "d_projected(const Unit& u, vec& to_product, vec& held)",
            [(("to_product", "held")[k], n) for k, n in enumerate(step.d_projected)],
        ),
    ]


def _at_hand(leaf: tuple) -> bool:
    """Whether the adjoint has it without its being stored: h_{t-1} is the output of the step before."""
    return leaf[0] in ("own", "reset", "recurrent", "share", "d_new", "d_seen") or leaf == ("state", 0)


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
            names[number] = f"u.own[{step.own.index(tuple(which))}]" if kind == "own" else LEAVES[kind].format(*which)
            continue
        operands = (names[n] for n in graph.operands(number))
        expression = f"splat({_number(args[0])})" if op == "const" else OPERATIONS[op].format(*operands)
        names[number] = f"v{len(names)}"
        lines.append(f"  const auto {names[number]} = {expression};")
    return lines + [f"  {place} = {names[n]};" for place, n in outputs]


def _number(text: str) -> str:
    if text in ("inf", "-inf", "nan"):
        return {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}[text]
    return f"real({text})"
