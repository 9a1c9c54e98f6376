"""What a cell's code reads besides its tensors. A kernel holds for these values alone."""

import dis
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache, partial
from inspect import getattr_static
from itertools import groupby, pairwise
from pathlib import Path
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ...cells.cell import Cell

Read = tuple[str, Callable[[], object]]
"""What it is called, and how to get its value."""

_PLAIN = (int, bool, str, bytes, type(None), torch.dtype, torch.device)
_FIXED = (*_PLAIN, float, complex, FunctionType, type)  # objects that never change
_IDLE = {*vars(nn.Module()), "init", "input_size", "hidden_size", "bias", "proj_size"} - {"training"}
"""Attributes that no step depends on, or that the tensors' shapes tell."""
_WRITING = {*vars(list), *vars(dict), *vars(set), *vars(deque)} - {
    *vars(tuple),
    *vars(frozenset),
    *vars(MappingProxyType),
}
"""Methods that change what they are called of."""
_OTHERS = {"torch", *sys.stdlib_module_names}  # packages whose values are taken to be constant


def read(cell: Cell) -> list[tuple[str, object]]:
    """Everything plain that the code of a step may read, by name.

    That is: the attributes of the cell and of its modules, and what the names in `update`, in the maps and in the
    functions that these call stand for: class attributes, globals, closures, default arguments. What is reached in
    other ways (`globals()`, `eval`, files, a name put together at run time) is not found.
    """
    found = [(name, get()) for owner, functions in _roots(cell) for name, get in _reads(owner, functions)]
    for path, module in cell.named_modules() if cell._modules else (("", cell),):
        found += [(f"{path}.{k}" if path else k, v) for k, v in module.__dict__.items() if k not in _IDLE]
    return found


def line_that_writes(cell: Cell, name: str) -> str:
    """ " (file:line)" of a step's code that sets what is called so or writes to it in place, or ""."""
    visited: set[FunctionType] = set()
    for owner, functions in _roots(cell):
        for function in functions:
            list(_of_function(function, owner, visited))
    for code in sorted((f.__code__ for f in visited), key=lambda code: (code.co_filename, code.co_firstlineno)):
        for line, instructions in groupby(dis.get_instructions(code), lambda i: i.positions and i.positions.lineno):
            if _writes(list(instructions), name):
                return f" ({Path(code.co_filename).name}:{line})"
    return ""


def _writes(line: list[dis.Instruction], name: str) -> bool:
    if not any(i.argval == name for i in line):
        return False
    called = [str(then.argval) for now, then in pairwise(line) if now.argval == name]
    in_place = any(word in _WRITING or (word.endswith("_") and not word.endswith("__")) for word in called)
    stored = any(i.argval == name and i.opname.startswith(("STORE_", "DELETE_")) for i in line)
    return in_place or stored or any(i.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") for i in line)


def _roots(cell: Cell) -> list[tuple[type, tuple]]:
    """The classes whose code a step runs, and their functions that it begins with."""
    kind, methods = type(cell), ["update", "input_map", "hidden_map"]
    methods += [name for name in ("step", "project", "forward") if getattr(kind, name) is not getattr(Cell, name)]
    roots = [(kind, tuple(_function(getattr(cell, name)) for name in methods))]
    for part in cell.modules() if cell._modules else ():
        roots += [(type(part), (type(part).forward,))] * (part is not cell)
    return roots


def is_fixed(value: object) -> bool:
    """Whether the object itself can't change, so that the same one means the same value."""
    return type(value) in _FIXED or (type(value) is tuple and all(map(is_fixed, value)))


def snapshot(value: Any, depth: int = 4) -> Hashable:
    """A value that equals that of later only if nothing has changed in between."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value  # for True equals 1
    if kind in (float, complex):
        return kind, repr(value)  # for -0.0 equals 0.0, and nan nothing
    if depth == 0:
        return _Same(value)
    if isinstance(value, list | tuple):
        return kind, tuple(snapshot(v, depth - 1) for v in value)
    if isinstance(value, dict):
        return kind, tuple((snapshot(k, depth - 1), snapshot(v, depth - 1)) for k, v in value.items())
    if isinstance(value, Tensor):
        return _Same(value), 0 if value.is_inference() else value._version
    if isinstance(value, MethodType):
        return _Same(value.__func__), snapshot(value.__self__, depth - 1)
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # numpy's
        return kind, str(value.dtype), value.tobytes()
    if isinstance(value, type | FunctionType | ModuleType | nn.Module) or not hasattr(value, "__dict__"):
        return _Same(value)
    named = {n: v for base in reversed(kind.__mro__) for n, v in vars(base).items() if not n.startswith("__")}
    return _Same(kind), tuple((name, snapshot(v, depth - 1)) for name, v in (named | vars(value)).items())


class _Same:
    """Equal to the same object alone, which it keeps alive, so that no other comes to have its number."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache
def _reads(cell: type[Cell], roots: tuple[FunctionType, ...]) -> tuple[Read, ...]:
    visited: set[FunctionType] = set()
    return tuple(found for root in roots for found in _of_function(root, cell, visited))


def _of_function(function: object, cell: type[Cell], visited: set) -> Iterator[Read]:
    if not isinstance(function, FunctionType) or function in visited or _is_others(function.__module__):
        return
    visited.add(function)
    names, known = _names(function.__code__), function.__globals__
    for name in ("__defaults__", "__kwdefaults__"):
        if getattr(function, name):
            yield f"{function.__qualname__}.{name}", partial(getattr, function, name)
    for name, inside in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            yield from _of_value(name, partial(getattr, inside, "cell_contents", None), names, cell, visited)
    for name in names & known.keys():
        yield from _of_value(name, partial(known.get, name), names, cell, visited)
    yield from _of_attributes(cell, names, cell, visited)


def _of_value(label: str, get: Callable, names: frozenset[str], cell: type[Cell], visited: set) -> Iterator[Read]:
    value = get()
    if isinstance(value, ModuleType):
        if not _is_others(value.__name__):
            for name in names & vars(value).keys():
                yield from _of_value(f"{label}.{name}", partial(getattr, value, name, None), names, cell, visited)
        return
    if _is_others(getattr(value, "__module__", None)) and callable(value):
        return
    if isinstance(value, type):
        yield from _of_attributes(value, names, cell, visited)
    yield label, get
    yield from _of_function(value, cell, visited)


def _of_attributes(owner: type, names: frozenset[str], cell: type[Cell], visited: set) -> Iterator[Read]:
    """Of a class, the attributes of these names, and what its methods read."""
    for name in names:
        value = getattr_static(owner, name, None)
        if value is None or any(name in vars(base) for base in nn.Module.__mro__):
            continue
        function = _function(value.fget if isinstance(value, property) else value)
        if isinstance(function, FunctionType):
            yield from _of_function(function, cell, visited)
        else:
            yield f"{owner.__name__}.{name}", partial(getattr, owner, name, None)


def _names(code: CodeType) -> frozenset[str]:
    """The names in a function and in those within it, and its words, which may be names for `getattr`."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    words = [c for c in code.co_consts if isinstance(c, str) and c.isidentifier()]
    return frozenset(code.co_names).union(words, *inner)


def _function(value: object) -> object:
    return getattr(value, "__func__", value)


def _is_others(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] in _OTHERS
