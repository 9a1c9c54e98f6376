"""A step of several phases as a kernel that the operators know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...cells.cell import Cell, State, lend
from ..eager import Kinds, Loop, Masks, Norms
from .cpu import PhasedKernel
from .early import evaluate, overloads
from .graph import Phases
from .once import compute, names_in
from .op import Fused

INPUT = "the input itself"
"""The name under which a cell with a step of its own is lent x, which only derivatives of higher order read."""


class FusedPhases(Fused):
    """As `Fused`, for any step. A kernel reads what the step takes of its input; what is made of that alone is done by
    torch before, for all steps at once, and so is what is made of parameters alone."""

    def prepare(self, cell: Cell, kinds: Kinds, dtype: torch.dtype, step: Phases) -> tuple:
        self.step, self.whole = step, type(cell).forward is not Cell.forward
        own = tuple(dict.fromkeys([*(name for name, *_ in step.own), *step.matrices]))
        self.kernel = PhasedKernel(step, dtype, self.state_sizes, kinds.share or (0,) * len(cell.states), own)
        self.maps_input, self.maps, self.own = False, (), step.own
        made = dict(step.once)
        elsewhere = dict.fromkeys([*step.early, *(name for call in made.values() for name in names_in(call))])
        self.elsewhere = tuple(n for n in elsewhere if n not in own and n not in made) + (INPUT,) * self.whole
        self.names = own + self.elsewhere
        self.features, self.functions = sum(step.sizes), overloads(step)
        return self.kernel.sources, step

    def run(
        self, cell: Cell, x: Tensor, state: State, tensors: dict[str, Tensor], masks: Masks, norms: Norms | None = None
    ) -> tuple[Tensor, State]:
        tensors = compute(self.step.once, tensors)
        if not self.whole:
            return super().run(cell, x, state, tensors, masks, norms)
        return self.run_mapped(
            evaluate(self.step, self.functions, x, tensors), state, tensors | {INPUT: x}, masks, norms
        )

    def again(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor], norms):
        if not self.whole:
            return super().again(x, state, weights, masks, norms)
        given = dict(zip(self.names, weights, strict=True))
        idle = {name: x.new_zeros(t.shape) for name, t in self.cell.named_parameters() if name not in given}
        out, last, _ = Loop(lend(self.cell, idle | given))(given[INPUT], tuple(state), self.masks(masks), norms=norms)
        return [out, *last]

    def call(self, which: str, x: Tensor, state, weights, masks, *results: Tensor | None) -> None:
        tensors, masks = dict(zip(self.names, weights, strict=True)), self.masks(masks)
        shares = masks.share or [None] * len(state)
        given = [x, *(tensors[name] for name in self.kernel.names), *state, *masks[:2], *shares]
        dense = [None if t is None else t.contiguous() for t in given]
        self.hand_over(which, [*x.shape[:2], torch.get_num_threads()], [*dense, *results])

    def gradients(self, x, state, weights, masks, out, saved, arriving, d_x, d_state, d_weights, norms) -> None:
        """Fill in the gradients; what is empty is not wanted."""
        found, arriving = [d_weights[name].zero_() for name in self.kernel.names], [d.contiguous() for d in arriving]
        self.call("backward", x, state, weights, masks, out, saved, *arriving, d_x, *found, *d_state, norms)
