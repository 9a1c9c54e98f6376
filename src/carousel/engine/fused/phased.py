"""A step of several phases as a kernel that the operators know."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...cells.cell import Cell, with_tensors
from ..eager import Loop
from .early import evaluate, overloads
from .graph import Phases
from .once import compute, names_in
from .recurrence import Fused
from .target import Kernel

INPUT = "the input itself"
"""The name under which a cell with a step of its own is given x, which only derivatives of higher order read."""


class FusedPhases(Fused):
    """As `Fused`, for any step. A kernel reads what the step takes of its input; what is made of that alone is done by
    torch before, for all steps at once, and so is what is made of parameters alone."""

    def prepare(self, cell: Cell, step: Phases) -> None:
        self.whole = type(cell).forward is not Cell.forward
        within, made = step.names, dict(step.once)
        self.maps_input, self.maps, self.extra = False, {}, step.extra
        elsewhere = dict.fromkeys([*step.early, *(name for call in made.values() for name in names_in(call))])
        self.elsewhere = tuple(n for n in elsewhere if n not in within and n not in made) + (INPUT,) * self.whole
        self.within, self.names = within, within + self.elsewhere
        self.features, self.functions = sum(step.sizes), overloads(step)

    def reads(self, cell: Cell, x: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        tensors = compute(self.step.once, tensors)
        if not self.whole:
            return super().reads(cell, x, tensors)
        given = tensors | {INPUT: x}
        return evaluate(self.step, self.functions, x, tensors), [given[name] for name in self.names]

    def again(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor], norms):
        if not self.whole:
            return super().again(x, state, weights, masks, norms)
        given = dict(zip(self.names, weights, strict=True))
        idle = {name: x.new_zeros(t.shape) for name, t in self.cell.named_parameters() if name not in given}
        loop = Loop(with_tensors(self.cell, idle | given))
        out, last, _ = loop(given[INPUT], tuple(state), self.masks(masks), norms=norms)
        return [out, *last]

    def call(self, kernel: Kernel, which: str, x: Tensor, state, weights, masks, **results) -> None:
        given = self.always(state, masks) | results
        kernel.call(which, x, given | {"weights": [t.contiguous() for t in weights[: len(self.within)]]})

    def gradients(self, x, state, weights, masks, d_x, d_weights, given: dict) -> None:
        given["d_weights"] = [d_weights[name].zero_() for name in self.within]
        self.call(self.kernel, "backward", x, state, weights, masks, d_x=d_x, **given)
