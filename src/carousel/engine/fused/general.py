"""Any step of a cell, with products and reductions within it: traced as `trace` does it, to `Phases`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...cells.cell import Cell, with_tensors
from ..eager import Kinds, Masks, step
from .graph import Graph, Phases, Unsupported
from .tracer import Traced, Tracer
from .written import refuse_writes


def trace_phases(cell: Cell, kinds: Kinds, tracer: Tracer) -> Phases:
    """Write down a step, whatever method of the cell's it is in.

    Raises:
        Unsupported: it cannot be expressed.
        Other: a parameter is to be taken for what it is.
    """
    sizes = cell.state_sizes
    named = (*cell.named_parameters(), *cell.named_buffers())
    tensors = {name: tracer.tensor(name, t, cell.hidden_size) for name, t in named}
    view, labels = with_tensors(cell, tensors), {name: t.label for name, t in tensors.items() if isinstance(t, Traced)}
    state = tuple(tracer.leaf("state", k, units=size).requires_grad_() for k, size in enumerate(sizes))
    masks = masks_of(kinds, sizes, tracer)
    whole = type(cell).forward is not Cell.forward
    if whole and (kinds.recurrent or kinds.detach_gates or kinds.detach_carousel):
        raise Unsupported("recurrent dropout and detaching need a hidden map")
    row, blocks, width = _row(cell, whole, tracer)
    d_new = [tracer.leaf("d_new", k, units=size) for k, size in enumerate(sizes)]

    with tracer:
        begun = masks.before(state, 0)
        made, gates = step(view, row, begun, masks, 0)
        view.__dict__.pop("_checked", None)
        if [tuple(s.shape) for s in made] != [tuple(s.shape) for s in state]:
            raise Unsupported(f"it makes {[list(s.shape[1:]) for s in made]} of states {[list(sizes)]}")
        refuse_writes(cell, view, tensors, labels)
        new = masks.after(begun, made, 0)

        tracer.backward = True
        tensors |= tracer.computed
        learnt = {name: t for name, t in tensors.items() if isinstance(t, Traced) and t.requires_grad}
        calls = [call for call in tracer.calls if not isinstance(call.result, Tensor) or call.result.requires_grad]
        entered = [] if not whole else tracer.entered
        wanted = [row, *state, *learnt.values(), *entered, *(call.result for call in calls)]
        each: Iterator[Any] = iter(tracer.gradients(new, wanted, d_new))
        d_row, d_state, d_learnt, d_entered, d_results = (
            [next(each) for _ in part] for part in ((row,), state, learnt, entered, calls)
        )
        d_made = [tracer.gradients(new, [s], d_new)[0] if s.requires_grad else None for s in made]

    def first(tensor: Tensor | None, size: int) -> int:
        return tracer.expressions(tensor, size)[0]

    if whole:
        inputs, d_wx = tuple(tracer.inputs), tuple(tracer.d_inputs(d_entered))
    else:
        inputs, d_wx = tracer.expressions(row, width, blocks), tracer.expressions(d_row[0], width, blocks)
    graph = tracer.graph
    roots = [first(s, size) for s, size in zip(new, sizes, strict=True)]
    d_state = [first(d, size) for d, size in zip(d_state, sizes, strict=True)]
    outers = [found for c, d in zip(calls, d_results, strict=True) if (found := tracer.outer(c, d)) is not None]
    multiplied = [n for o in outers for n in (*(e for e, _ in o.operands), *(d for d, _, _ in o.blocks))]
    reached = graph.reach([*roots, *d_state, *d_wx, *multiplied])
    read = {graph.nodes[n].args[1] for n in reached if graph.nodes[n].op == "leaf" and graph.nodes[n].args[0] == "wx"}
    used = tuple(
        graph.nodes[n].args[1:] for n in reached if graph.nodes[n][0] == "leaf" and graph.nodes[n].args[0] == "extra"
    )
    d_extra = []
    for name, block, units in used:
        gradient = d_learnt[list(learnt).index(name)] if name in learnt else None
        flat = None if gradient is None else Traced(gradient.label.reshape(3, -1), gradient.dtype)
        d_extra.append(tracer.expressions(flat, units, tensors[name].numel() // units)[block])
    early = _names(graph, graph.reach([inputs[j] for j in sorted(read)])) if whole else ()
    matrices = _matrices(graph, reached, outers)
    return Phases(
        graph,
        inputs=inputs,
        sizes=tuple(graph.widths[n] * (j in read) for j, n in enumerate(inputs)) if whole else (width,) * blocks,
        new=tuple(roots),
        d_state=tuple(d_state),
        d_made=tuple(first(d, size) for d, size in zip(d_made, sizes, strict=True)),
        d_wx=d_wx,
        extra=used,
        d_extra=tuple(d_extra),
        outers=tuple(outers),
        matrices=matrices,
        early=early,
        gates=tracer.shown(gates, cell.hidden_size, graph.reach(roots)),
        once=tracer.once({name for name, *_ in used}.union(matrices, early)),
    )


def masks_of(kinds: Kinds, sizes: tuple[int, ...], tracer: Tracer) -> Masks:
    """Masks of one step that are leaves."""

    def step_of(mask: Traced) -> Traced:  # (B, F) as the one step of a mask (T, B, F)
        return Traced(mask.label.unsqueeze(1), mask.dtype)

    def flag(name: str) -> Traced:
        return step_of(tracer.leaf(name, units=1, dtype=torch.bool))

    return Masks(
        reset=flag("reset") if kinds.reset else None,
        recurrent=tracer.leaf("recurrent", units=sizes[0]) if kinds.recurrent else None,
        update_mask=tuple(
            step_of(tracer.leaf("update_mask", k, units=(1, sizes[k])[kind - 1])) if kind else None
            for k, kind in enumerate(kinds.update_mask)
        ),
        detach_gates=flag("detach_gates") if kinds.detach_gates == 2 else bool(kinds.detach_gates),
        detach_carousel=flag("detach_carousel") if kinds.detach_carousel == 2 else bool(kinds.detach_carousel),
    )


def _row(cell: Cell, whole: bool, tracer: Tracer) -> tuple[Traced, int, int]:
    """What a step reads of the input: x_t itself, or leaves for the blocks of its input map; and how many blocks of how
    many units these are."""
    if whole:
        return tracer.leaf("x", units=cell.input_size).requires_grad_(), 1, cell.input_size
    on_meta = with_tensors(cell, {name: torch.empty_like(t, device="meta") for name, t in cell.state_dict().items()})
    x = torch.empty(tracer.batch, cell.input_size, device="meta", dtype=tracer.dtype)
    features, units = on_meta.input_map(x).size(-1), cell.hidden_size
    blocks, width = (features // units, units) if features % units == 0 else (1, features)
    return tracer.blocks_of_leaves("wx", blocks, width).requires_grad_(), blocks, width


def _names(graph: Graph, numbers: list[int]) -> tuple[str, ...]:
    leaves = [graph.nodes[n].args for n in numbers if graph.nodes[n].op == "leaf"]
    return tuple(dict.fromkeys([*_matrices(graph, numbers), *(leaf[1] for leaf in leaves if leaf[0] == "extra")]))


def _matrices(graph: Graph, numbers, outers=()) -> tuple[str, ...]:
    names = [w[0] for n in numbers if graph.nodes[n].op == "product" for w in graph.nodes[n].args[1][2]]
    return tuple(dict.fromkeys([*names, *(w[0] for o in outers for _, _, ws in o.blocks for w in ws)]))
