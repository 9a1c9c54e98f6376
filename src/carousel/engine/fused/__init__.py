"""A cell's recurrence as one kernel: trace the update, derive its adjoint, emit, build, cache and call it."""

import logging
import threading
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch

from ...cells.cell import Cell
from ..eager import Kinds
from .build import BuildError
from .graph import Unsupported
from .op import KERNELS, Fused

__all__ = ["KERNELS", "Fused", "plan"]

_plans: WeakKeyDictionary[Cell, dict[tuple, tuple[str, str]]] = WeakKeyDictionary()
_lock = threading.RLock()


def plan(cell: Cell, kinds: Kinds, dtype: torch.dtype) -> tuple[str, str]:
    """The key of the kernel in `KERNELS`, made if it is not there, or ""; and why there is one, or none."""
    key = (dtype, kinds, *(module.training for module in cell.modules()))  # of a cell, nothing else can change
    with _lock:
        plans = _plans.setdefault(cell, {})
        if key not in plans:
            plans[key] = _make(cell, kinds, dtype)
        return plans[key]


_say = lru_cache(logging.getLogger("carousel").warning)  # each thing once


def _make(cell: Cell, kinds: Kinds, dtype: torch.dtype) -> tuple[str, str]:
    found: list[tuple[str, str]] = []

    def work() -> None:
        try:
            fused = Fused(cell, kinds, dtype)
        except Unsupported as error:
            found.append(("", f"{type(cell).__name__}: {error}"))
        except BuildError as error:
            found.append(("", str(error)))
            _say(f"carousel runs eagerly: {error}")
        else:
            kept = f"the adjoint keeps {len(fused.kernel.saved)} values of each unit"
            found.append((fused.key, f"one kernel for all steps; {kept}; derivatives beyond the first run the loop"))

    # In a thread of its own, where none of the caller's modes is on: fake tensors, autocast, a default device, ...
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]
