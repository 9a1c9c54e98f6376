"""What all kernels of this target share: its operations, and pieces of C++.

To teach it an operation, add a line to `OPERATIONS`.
"""

from collections.abc import Callable, Sequence
from importlib.resources import files

import torch

from ..graph import Graph

OPERATIONS = {
    "add": "{0} + {2} * {1}",
    "sub": "{0} - {2} * {1}",
    "rsub": "{1} - {2} * {0}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "detach": "{0}",
    "reciprocal": "1 / {0}",
    "addcmul": "{0} + {3} * ({1} * {2})",
    "lerp": "{0} + {2} * ({1} - {0})",
    "abs": "abs({0})",
    "sgn": "sign({0})",
    "sign": "sign({0})",
    "sqrt": "sqrt({0})",
    "rsqrt": "1 / sqrt({0})",
    "exp": "exp({0})",
    **{name: f"{name}({{0}})" for name in ("log", "log1p", "expm1", "sin", "cos", "erf")},
    "pow": "pow({0}, {1})",
    **{name: f"EACH({name}, {{0}})" for name in ("exp2", "log2", "log10", "erfc")},
    **{name: f"EACH({name}, {{0}})" for name in ("tan", "asin", "acos", "atan")},
    **{name: f"EACH({name}, {{0}})" for name in ("sinh", "cosh", "asinh", "acosh", "atanh")},
    **{name: f"EACH({name}, {{0}})" for name in ("floor", "ceil", "trunc")},
    **{name: f"EACH({name}, {{0}}, {{1}})" for name in ("fmod", "hypot", "atan2")},
    "round": "EACH(nearbyint, {0})",  # half to even
    "remainder": "remainder({0}, {1})",
    "div_floor": "floor_divide({0}, {1})",
    "div_trunc": "EACH(trunc, {0} / {1})",
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
    "softplus": "where({0} * {1} > {2}, {0}, log1p(exp({0} * {1})) / {1})",
    "softplus_backward": "where({1} * {2} > {3}, {0}, {0} * sigmoid({1} * {2}))",
    "maximum": "max({0}, {1})",
    "minimum": "min({0}, {1})",
    "clamp": "min(max({0}, {1}), {2})",
    "clamp_min": "max({0}, {1})",
    "clamp_max": "min({0}, {1})",
    "where": "where({0}, {1}, {2})",
    "float": "truth({0})",
    "isnan": "isnan({0})",
    "isinf": "abs({0}) == INF",
    "isposinf": "{0} == INF",
    "isneginf": "{0} == -INF",
    "signbit": "bits({0}) < 0",
    **{name: f"{{0}} {sign} {{1}}" for name, sign in {"eq": "==", "ne": "!=", "lt": "<", "le": "<="}.items()},
    **{name: f"{{0}} {sign} {{1}}" for name, sign in {"gt": ">", "ge": ">="}.items()},
    **{f"{kind}_and": "{0} & {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_or": "{0} | {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_xor": "{0} ^ {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_not": "~{0}" for kind in ("logical", "bitwise")},
}
"""aten's operations, by name, as C++ of vectors. The operands are numbered as in aten's schema."""
TRUTHS = {
    *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isposinf", "isneginf", "signbit"),
    *(f"{kind}_{op}" for kind in ("logical", "bitwise") for op in ("and", "or", "xor", "not")),
}
"""Of these, the ones that make truth values."""
Constants = dict[str, tuple[int | bool | Sequence[int], str]]
"""By name the value, and what it says."""
FLAGS = ("reset", "detach_gates", "detach_carousel")
"""The masks that are truth values, one for each step of a sequence."""
CHUNK = 128
"""Places (a step of a sequence) of which W x and the weights' gradients are done at a time."""


def machine() -> tuple[int, int]:
    """Bytes of a vector, and how many vector registers there are."""
    return {"AVX512": (64, 32), "AVX2": (32, 16)}.get(torch.backends.cpu.get_cpu_capability(), (16, 32))


def cost(op: str) -> float:
    """Of an operation, in additions."""
    prices = {"EACH": 100.0, "pow(": 60.0, "erf(": 40.0, "sin(": 40.0, "cos(": 40.0, "log": 20.0, "exp": 12.0}
    for part, price in (prices | {"sigmoid(": 12.0, "tanh(": 12.0, "/": 8.0}).items():
        if part in OPERATIONS[op]:
            return price
    return 1.0


def is_truth(graph: Graph, number: int) -> bool:
    op, args = graph.nodes[number]
    return op in TRUTHS or (op == "leaf" and args[0] in FLAGS)


def header(dtype: torch.dtype, lanes: int, constants: Constants, arguments: str) -> str:
    """What a source begins with: the legend of what it is for and is called with, and vectors."""
    real = "double" if dtype == torch.float64 else "float"
    lines = ["// What this kernel is for, and what it is called with.", f"using real = {real};"]
    lines += [f"constexpr int WIDTH = {lanes};  // elements of a vector: units stand in blocks of so many"]
    for name, (value, words) in constants.items():
        kind, shown = "long", str(value)
        if isinstance(value, bool):
            kind, shown = "bool", str(value).lower()
        elif isinstance(value, Sequence):
            kind, name, shown = "int", f"{name}[]", f"{{{', '.join(map(str, value))}}}"
        lines.append(f"constexpr {kind} {name} = {shown};  // {words}")
    return "\n".join([*lines, arguments, template("vector"), template("elementary")])


def statement(graph: Graph, number: int, name: Callable[[int], str]) -> str:
    """The expression of a constant or an operation, from its operands' names."""
    op, args = graph.nodes[number]
    return f"splat({_number(args[0])})" if op == "const" else OPERATIONS[op].format(*map(name, graph.operands(number)))


def template(name: str) -> str:
    return files(str(__package__)).joinpath(f"{name}.hpp").read_text()


def _number(text: str) -> str:
    if text in ("inf", "-inf", "nan"):
        return {"inf": "INF", "-inf": "-INF", "nan": "NO_NUMBER"}[text]
    return f"real({text})"
