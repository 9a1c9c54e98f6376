"""What all kernels of this target share: its operations, and how a graph of them is written.

To teach it an operation, add a line to `OPERATIONS`.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files

from ..graph import Graph

OPERATIONS = {
    "add": "{0} + {2} * {1}",
    "sub": "{0} - {2} * {1}",
    "rsub": "{1} - {2} * {0}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "detach": "{0}",
    "reciprocal": "1.0 / {0}",
    "addcmul": "{0} + {3} * ({1} * {2})",
    "lerp": "tl.where({2} < 0.5, {0} + {2} * ({1} - {0}), {1} - (1.0 - {2}) * ({1} - {0}))",  # as torch rounds it,
    "abs": "tl.abs({0})",
    "sgn": "sign({0})",
    "sign": "sign({0})",
    **{name: f"tl.{name}({{0}})" for name in ("exp", "log", "sqrt", "sin", "cos", "erf", "floor", "ceil")},
    "rsqrt": "1.0 / tl.sqrt({0})",
    **{name: f"{name}({{0}})" for name in ("expm1", "log1p", "sigmoid", "tanh")},
    "trunc": "whole({0})",
    "round": "nearest({0})",
    "remainder": "remainder({0}, {1})",
    "fmod": "{0} % {1}",
    "div_floor": "floor_divide({0}, {1})",
    "div_trunc": "whole({0} / {1})",
    "fmax": "tl.where(({0} != {0}) | ({1} > {0}), {1}, {0})",
    "fmin": "tl.where(({0} != {0}) | ({1} < {0}), {1}, {0})",
    **{f"{name}_backward": "tl.where(tl.abs({1}) <= {2}, 0.0, {0})" for name in ("softshrink", "hardshrink")},
    "sigmoid_backward": "{0} * (1.0 - {1}) * {1}",
    "tanh_backward": "{0} * (1.0 - {1} * {1})",
    "relu": "tl.where({0} <= 0.0, 0.0, {0})",
    "threshold_backward": "tl.where({1} <= {2}, 0.0, {0})",
    "silu": "{0} * sigmoid({0})",
    "softplus": "tl.where({0} * {1} > {2}, {0}, log1p(tl.exp({0} * {1})) / {1})",
    "softplus_backward": "tl.where({1} * {2} > {3}, {0}, {0} * sigmoid({1} * {2}))",
    "maximum": "greater({0}, {1})",
    "minimum": "smaller({0}, {1})",
    "clamp": "smaller(greater({0}, {1}), {2})",
    "clamp_min": "greater({0}, {1})",
    "clamp_max": "smaller({0}, {1})",
    "where": "tl.where({0}, {1}, {2})",
    "float": "{0}.to({real})",
    "isnan": "{0} != {0}",
    "isinf": "tl.abs({0}) == float('inf')",
    "isposinf": "{0} == float('inf')",
    "isneginf": "{0} == -float('inf')",
    **{name: f"{{0}} {sign} {{1}}" for name, sign in {"eq": "==", "ne": "!=", "lt": "<", "le": "<="}.items()},
    **{name: f"{{0}} {sign} {{1}}" for name, sign in {"gt": ">", "ge": ">="}.items()},
    **{
        f"{kind}_{op}": f"{{0}} {sign} {{1}}"
        for kind in ("logical", "bitwise")
        for op, sign in (("and", "&"), ("or", "|"))
    },
    **{f"{kind}_xor": "{0} != {1}" for kind in ("logical", "bitwise")},
    **{f"{kind}_not": "~{0}" for kind in ("logical", "bitwise")},
}
"""aten's operations, by name, as Triton of blocks. The operands are numbered as in aten's schema."""
TRUTHS = {
    *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isposinf", "isneginf"),
    *(f"{kind}_{op}" for kind in ("logical", "bitwise") for op in ("and", "or", "xor", "not")),
}
"""Of these, the ones that make truth values."""
FLAGS = ("reset", "detach_gates", "detach_carousel")
"""The masks that are truth values, one for each step of a sequence."""


def cost(op: str) -> float:
    """Of an operation, in additions: little beside a value's way to memory and back."""
    return 8.0 if "(" in OPERATIONS[op] else 1.0


def is_truth(graph: Graph, number: int) -> bool:
    op, args = graph.nodes[number]
    return op in TRUTHS or (op == "leaf" and args[0] in FLAGS)


def head() -> str:
    """What stands before the kernels."""
    return files(str(__package__)).joinpath("_elementary.py").read_text()


def constant(text: str, real: str) -> str:
    """A number as a block of one, of the kernel's type: one of Python's would become a float32 here and there."""
    value = f"float('{text}')" if text in ("inf", "-inf", "nan") else text
    return f"tl.full([1], {value}, {real})"


def expression(graph: Graph, number: int, names: Mapping[int, str], real: str) -> str:
    """Of a constant or an operation, from its operands' names."""
    op, args = graph.nodes[number]
    operands = (names[n] for n in graph.operands(number))
    return constant(args[0], real) if op == "const" else OPERATIONS[op].format(*operands, real=real)


def statements(
    graph: Graph, roots: Iterable[int], known: dict[int, str], leaf: Callable[[tuple], str], real: str
) -> tuple[list[str], dict[int, str]]:
    """Lines that compute nodes from others, and the names that all of these have.

    Args:
        graph: of expressions.
        roots: the nodes wanted.
        known: the names of those that are there.
        leaf: the name of a leaf.
        real: the kernel's type.
    """
    names, lines = dict(known), []
    for number in graph.reach(list(roots), known):
        op, args = graph.nodes[number]
        if op == "leaf":
            names[number] = leaf(args)
            continue
        lines.append(f"v{number} = {expression(graph, number, names, real)}")
        names[number] = f"v{number}"
    return lines, names
