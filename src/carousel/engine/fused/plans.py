"""Which kernel a cell has for a run, made where there is none yet, or why it has none."""

import random
import threading
from collections.abc import Callable

import torch

from ...cells.cell import Cell
from ..eager import Kinds
from ..registry import REGISTRY, Known
from . import TARGETS
from .graph import Step, Unsupported
from .phased import FusedPhases
from .reads import is_fixed, line_that_writes, read, snapshot
from .recurrence import Fused
from .target import BuildError
from .trace import trace

MOST = 3
"""How many values of what a cell's code reads get kernels of their own; with more the cell runs eagerly."""


def plan(cell: Cell, target: str, dtype: torch.dtype, kinds: Kinds) -> tuple[str, str]:
    """The kernel's key, made if it is not there, or ""; and why there is one, or none. `target` is one of `TARGETS`."""
    with REGISTRY.lock:
        known = REGISTRY.cells.get(cell)
        if known is None:
            known = REGISTRY.cells[cell] = Known(_tensors(cell))
        found, case = read(cell), (target, dtype, kinds)
        before, planned = known.last.get(case, ((), ("", "")))
        if len(found) == len(before) and all(a[1] is b[1] for a, b in zip(found, before, strict=True)):
            return planned  # the usual case, at the least cost
        planned = _plan(cell, known, case, tuple((name, snapshot(value)) for name, value in found))
        known.last[case] = (found if all(is_fixed(value) for _, value in found) else ()), planned
        return planned


def _tensors(cell: Cell) -> tuple:
    named = (*cell.named_parameters(remove_duplicate=False), *cell.named_buffers(remove_duplicate=False))
    numbers: dict[int, int] = {}
    return tuple((name, t.shape, numbers.setdefault(id(t), len(numbers))) for name, t in named)


def _plan(cell: Cell, known: Known, case: tuple[str, torch.dtype, Kinds], values: tuple) -> tuple[str, str]:
    key = (tuple(map(type, cell.modules())), known.tensors, case, values)
    plans = REGISTRY.plans
    if key not in plans:
        if values not in known.values:
            if len(known.values) == MOST:
                name = next((name for name, value in values if (name, value) not in known.values[-1]), "what it reads")
                return "", f"{name} takes ever new values, and a kernel holds for one; make it a buffer"
            known.values.append(values)
        plans[key] = _make(cell, *case)
        if changed := [name for name, value in read(cell) if (name, snapshot(value)) not in values]:
            line = line_that_writes(cell, changed[0].rpartition(".")[2])
            plans[key] = "", f"{type(cell).__name__}: its update changes {changed[0]}{line}"
    return plans[key]


def plan_record(key: str) -> str:
    """Why a kernel cannot record, or "": then it is ready to."""
    kernel, found = REGISTRY.kernels[key], []

    def work() -> None:
        try:
            kernel.prepare_record()
        except (Unsupported, BuildError) as error:
            found.append(str(error))

    with REGISTRY.lock:
        if kernel.recorder is None:
            _apart(work)
    return found[0] if found else ""


def _make(cell: Cell, which: str, dtype: torch.dtype, kinds: Kinds) -> tuple[str, str]:
    target = TARGETS[which]
    found: list[tuple[str, str]] = []

    def work() -> None:
        try:
            step = trace(cell, kinds, dtype, target.operations, target.projects)
            fused = (Fused if isinstance(step, Step) else FusedPhases)(cell, kinds, dtype, step, target)
        except Unsupported as error:
            found.append(("", f"{type(getattr(cell, 'itself', cell)).__name__}: {error}"))
        except BuildError as error:
            found.append(("", str(error)))
            REGISTRY.warn(f"carousel runs eagerly: {error}")
        else:
            kept = f"the adjoint keeps {len(fused.kernel.saved)} values of each unit"
            found.append((fused.key, f"{fused.kernel.how}; {kept}; derivatives beyond the first run the loop"))

    _apart(work)
    return found[0]


def _apart(work: Callable[[], None]) -> None:
    """In a thread of its own, where none of the caller's modes is on: fake tensors, autocast, a default device, ..."""
    thread, drawn = threading.Thread(target=work), random.getstate()
    with torch.random.fork_rng(devices=[]):
        thread.start()
        thread.join()
    random.setstate(drawn)
