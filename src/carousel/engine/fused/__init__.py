"""A cell's recurrence as one kernel: trace the update, derive its adjoint, emit, build, cache and call it."""

import threading
import warnings
from weakref import WeakKeyDictionary

import torch

from ...cells.cell import Cell
from ..eager import Kinds
from .build import BuildError
from .op import KERNELS, Fused
from .trace import Unsupported

__all__ = ["KERNELS", "Fused", "plan"]

_plans: WeakKeyDictionary[Cell, dict[tuple, tuple[str, str]]] = WeakKeyDictionary()
_lock = threading.RLock()


def plan(cell: Cell, kinds: Kinds, dtype: torch.dtype) -> tuple[str, str]:
    """The key of the kernel in `KERNELS`, made if it is not there, or ""; and why there is one, or none."""
    options = tuple(
        str(v) if type(v) is list else v for m in cell.modules() for v in vars(m).values() if type(v) in _PLAIN
    )
    key = (dtype, kinds, options)
    with _lock:
        plans = _plans.setdefault(cell, {})
        if key not in plans:
            plans[key] = _make(cell, kinds, dtype)
        return plans[key]


_PLAIN = (bool, int, float, str, tuple, list, type(None))


def _make(cell: Cell, kinds: Kinds, dtype: torch.dtype) -> tuple[str, str]:
    found: list[tuple[str, str]] = []

    def work() -> None:
        try:
            fused = Fused(cell, kinds, dtype)
            stored = len(fused.kernel.saved)
            found.append(
                (fused.key, f"one kernel for all steps; {stored} values per unit and step are stored for the adjoint")
            )
        except (Unsupported, BuildError) as error:
            found.append(("", f"{type(cell).__name__}: {error}" if isinstance(error, Unsupported) else str(error)))
            if isinstance(error, BuildError):
                warnings.warn(f"carousel runs eagerly: {error}", stacklevel=2)

    thread = threading.Thread(
        target=work
    )  # of its own: none of the caller's modes (fake tensors, autocast, ...) is there
    thread.start()
    thread.join()
    return found[0]
