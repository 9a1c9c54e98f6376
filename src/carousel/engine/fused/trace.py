"""What a cell's step computes, elementwise: its `update`, run once on tensors that write down what happens to them.

The adjoint comes from autograd, which runs through the same tensors. Nothing in here knows what a kernel looks like.
"""

import contextlib
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...cells.cell import Cell, with_tensors
from ..eager import Kinds
from .general import masks_of, trace_phases
from .graph import Node, Phases, Step, Unsupported
from .products import Other
from .tracer import Traced, Tracer
from .written import refuse_writes

BATCHES = (2, 3)
"""Traced once with each: an update that reads the size, or differs from time to time, is found out. More than one, so
that one which mixes sequences is, too."""


def trace(
    cell: Cell, kinds: Kinds, dtype: torch.dtype, vocabulary: Collection[str], projects: bool = True
) -> Step | Phases:
    """Write down a cell's step: as a `Step` if it is of that form, else as `Phases`.

    Args:
        cell: on any device, "meta" too; its code and its parameters' shapes are what matters.
        kinds: which masks the run has.
        dtype: of the run.
        vocabulary: operations by aten's names, without overload.
        projects: whether a `Step` may have a projection.

    Raises:
        Unsupported: the step mixes units or sequences otherwise than by products with the cell's matrices and sums over
            units, or it uses something not in the vocabulary.
    """
    kind = type(cell)
    try:
        with torch.enable_grad():
            common = kind.forward is Cell.forward and kind.step is Cell.step and kind.project is Cell.project
            if common and (projects or not cell.proj_size):
                with contextlib.suppress(Exception):
                    return _twice(lambda batch: _trace(cell, kinds, Tracer(vocabulary, dtype, batch)))
            forms: dict[str, str] = {}
            while True:
                try:
                    return _twice(
                        lambda batch: trace_phases(
                            cell, kinds, Tracer(vocabulary, dtype, batch, cell.hidden_size, forms)
                        )
                    )
                except Other as found:
                    name, form = found.args
                    if name in forms:
                        raise Unsupported(f"it uses {name} as a matrix and unit by unit") from None
                    forms[name] = form
    except Unsupported as error:
        raise Unsupported(f"{error}{_where(error)}") from error
    except Exception as error:  # whatever the cell's own code raises
        message = (str(error).splitlines() or [""])[0]
        what = f"its step cannot be traced: {type(error).__name__}: {message}{_where(error)}"
        raise Unsupported(what) from error


def _where(error: Exception) -> str:
    """The line of the cell's own code that stands in the way, if it is one."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if _is_the_cells(f)]
    return f" ({lines[-1]})" if lines else ""


def _is_the_cells(frame: traceback.FrameSummary) -> bool:
    others = (Path(torch.__file__).parent, Path(__file__).parents[2])
    return not any(Path(frame.filename).is_relative_to(folder) for folder in others) and frame.filename[0] != "<"


def _twice(trace: Callable[[int], Step | Phases]) -> Step | Phases:
    step, again = (trace(batch) for batch in BATCHES)
    if step != again:
        raise Unsupported("it does not compute the same each time, or not the same for each size of a batch")
    return step


def _trace(cell: Cell, kinds: Kinds, tracer: Tracer) -> Step:
    units, sizes = cell.hidden_size, cell.state_sizes
    tensors = {name: tracer.tensor(name, t, units) for name, t in (*cell.named_parameters(), *cell.named_buffers())}
    view, labels = with_tensors(cell, tensors), {name: t.label for name, t in tensors.items() if isinstance(t, Traced)}
    state = tuple(tracer.leaf("state", k, units=size).requires_grad_() for k, size in enumerate(sizes))
    masks = masks_of(kinds, sizes, tracer)
    wx, mapped, maps_input = _input_map(cell, view, tracer)
    weight = cell._parameters.get("weight_hh")
    if weight is not None and weight.size(0) % units:
        raise Unsupported(f"its weight_hh has {weight.size(0)} rows, which are no blocks of {units}")
    uh = tracer.blocks_of_leaves("uh", 0 if weight is None else weight.size(0) // units, units).requires_grad_()
    out = tracer.leaf("out", units=sizes[0]).requires_grad_()
    d_new = [tracer.leaf("d_new", k, units=units) for k in range(len(state))]
    d_hidden_input, d_out = (tracer.leaf(name, units=sizes[0]) for name in ("d_hidden_input", "d_out"))

    with tracer:
        begun = masks.before(state, 0)
        hidden_input: Any
        hidden_input, held = masks.ways(begun, 0)
        hidden_input.product = (view._parameters.get("weight_hh"), view._parameters.get("bias_hh"), uh)
        returned = view.update(mapped, view.hidden_map(hidden_input), held)
        view.check_update(returned, held)
        made, gates = returned
        refuse_writes(cell, view, tensors, labels)
        moved = masks.after(begun, (out if cell.proj_size else made[0], *made[1:]), 0)
        new = (made[0] if cell.proj_size else moved[0], *moved[1:])

        tracer.backward = True
        learnt = {name: t for name, t in tensors.items() if t.requires_grad and isinstance(t, Traced)}
        d_wx, d_uh, *rest = tracer.gradients(new, [wx, uh, *state, *learnt.values()], d_new)
        d_made = [tracer.gradients(new, [s], d_new)[0] if s.requires_grad else None for s in made]
        d_learnt: dict[str, Any] = dict(zip(learnt, rest[len(state) :], strict=True))
        (d_hidden_input,) = tracer.gradients([hidden_input], state[:1], [d_hidden_input])
        d_out, d_held = tracer.gradients(moved[:1], [out, state[0]], [d_out])

    def first(tensor: Tensor | None, size: int) -> int:
        return tracer.expressions(tensor, size)[0]

    roots = [first(s, units) for s in new]
    d_state = tuple(first(d, size) for d, size in zip(rest[: len(state)], sizes, strict=True))
    d_wx = tracer.expressions(d_wx, units, wx.size(-1) // units)
    reached = tracer.graph.reach([*roots, *d_state])
    leaves = [args for op, args in (tracer.graph.nodes[n] for n in reached) if op == "leaf"]
    product = any(leaf[0] == "uh" for leaf in leaves)
    d_uh = tracer.expressions(d_uh, units, uh.size(-1) // units) if product else ()
    used = tuple(leaf[1:] for leaf in leaves if leaf[0] == "extra")
    d_extra = []
    for name, block in used:
        gradient = d_learnt.get(name)
        blocks = max(1, tensors[name].numel() // units)
        flat = None if gradient is None else Traced(gradient.label.reshape(3, -1), gradient.dtype)
        d_extra.append(tracer.expressions(flat, units if tensors[name].numel() > 1 else 1, blocks)[block])
    return Step(
        tracer.graph,
        hidden_input=first(hidden_input, sizes[0]),
        new=tuple(roots),
        d_hidden_input=first(d_hidden_input, sizes[0]),
        d_wx=d_wx,
        maps_input=maps_input,
        d_uh=d_uh,
        d_state=d_state,
        d_made=tuple(first(d, units) for d in d_made),
        extra=used,
        d_extra=tuple(d_extra),
        projected=first(moved[0], sizes[0]) if cell.proj_size else None,
        d_projected=(first(d_out, sizes[0]), first(d_held, sizes[0])) if cell.proj_size else (),
        gates=tracer.shown(gates, units, reached),
    )


def _input_map(cell: Cell, view: Cell, tracer: Tracer) -> tuple[Traced, Traced, bool]:
    """The leaves ("wx", gate), what `update` is given, and whether the leaves are W x + b.

    So they are if the map is elementwise but for that product; any other map is left to be done before.
    """
    units, (weight, bias) = cell.hidden_size, (view._parameters.get(name) for name in ("weight_ih", "bias_ih"))
    if weight is not None and weight.size(0) % units == 0:
        x = tracer.leaf("x", units=cell.input_size)
        wx = tracer.blocks_of_leaves("wx", weight.size(0) // units, units).requires_grad_()
        x.product = (weight, bias, wx)
        with contextlib.suppress(Exception), tracer:
            mapped: Any = view.input_map(x)
            reached = tracer.graph.reach(mapped.label[0].unique().tolist())
            if not any(tracer.graph.nodes[n] == Node("leaf", ("x",)) for n in reached):
                return wx, mapped, True
    on_meta = with_tensors(cell, {name: torch.empty_like(t, device="meta") for name, t in cell.state_dict().items()})
    x = torch.empty(tracer.batch, cell.input_size, device="meta", dtype=tracer.dtype)
    wx = tracer.blocks_of_leaves("wx", on_meta.input_map(x).size(-1) // units, units).requires_grad_()
    return wx, wx, False
