"""Functions of Triton from their source."""

import hashlib
import linecache
from functools import cache
from importlib import import_module
from typing import Any


@cache
def load(source: str, interpreted: bool) -> dict[str, Any]:
    """What a source defines, for the compiler or the interpreter. Triton, which compiles later, and keeps
    what it has compiled by its source, reads the lines again where Python keeps those of files."""
    triton: Any = import_module("triton")  # not this folder, as a reader of types would have it
    name = f"<carousel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    defined: dict[str, Any] = {"__name__": name, "__file__": name}
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = interpreted
        exec(compile(source, name, "exec"), defined)
    return defined
