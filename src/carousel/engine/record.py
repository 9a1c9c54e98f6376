"""Every gate and every state of every step, by a kernel."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..cells.cell import Cell, State, with_tensors
from ..cells.module import view_of
from .eager import Loop, Masks, derivative

if TYPE_CHECKING:
    from .fused.recurrence import Fused

REASON = "one kernel for all steps keeps the gates and the states; derivatives of these run the loop"


def run(
    kernel: "Fused", loop: Loop, tensors: dict[str, Tensor], x: Tensor, state: State, masks: Masks
) -> tuple[Tensor, State, dict[str, Tensor]]:
    """As `Loop.forward` with a record."""
    cell, mapped = view_of(kernel.cell), x
    if type(cell).forward is Cell.forward and not kernel.maps_input:  # it is done here, once
        mapped = with_tensors(loop.cell, tensors).input_map(x)
        cell.input_map = lambda x: x
    with torch.no_grad():
        out, last, kept = kernel.record(cell, mapped, state, tensors, masks)
    results, given, count = [out, *last, *kept.values()], (mapped, *state, *tensors.values()), len(state)
    if torch.is_grad_enabled() and any(t.requires_grad for t in given):

        def again(mapped: Tensor, *others: Tensor) -> list[Tensor]:
            view = with_tensors(cell, dict(zip(tensors, others[count:], strict=True)))
            out, last, kept = Loop(view)(mapped, others[:count], masks, True)
            return [out, *last, *kept.values()]

        results = _Again.apply(again, results, *given)
    return results[0], tuple(results[1 : 1 + count]), dict(zip(kept, results[1 + count :], strict=True))


class _Again(torch.autograd.Function):
    """Results that are there already, with the derivatives of a function that makes them again."""

    @staticmethod
    def forward(ctx: Any, again: Callable[..., list[Tensor]], results: list[Tensor], *given: Tensor) -> Any:
        ctx.again = again
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor | None) -> Any:
        return None, None, *derivative(ctx.again, ctx.saved_tensors, ctx.needs_input_grad[2:], arriving)
