"""What a step has left behind in its cell."""

from typing import Any

from torch import Tensor

from ...cells.cell import Cell
from .graph import Unsupported
from .reads import line_that_writes


def refuse_writes(cell: Cell, view: Cell, tensors: dict[str, Any], labels: dict[str, Tensor]) -> None:
    """Raise if a step has left something behind: the kernel would do it once, or never."""
    now = dict(view.named_parameters()) | dict(view.named_buffers())
    written = [name for name, tensor in tensors.items() if now.get(name) is not tensor]
    written += [name for name, label in labels.items() if tensors[name].label is not label]
    for module, part in zip(cell.modules(), view.modules(), strict=True):
        kept, inner = module.__dict__, ("_parameters", "_buffers", "_modules")
        written += [name for name, v in part.__dict__.items() if name not in inner and kept.get(name, part) is not v]
    if written:
        line = line_that_writes(cell, written[0].rpartition(".")[2])
        raise Unsupported(f"it writes to {written[0]}{line}")
