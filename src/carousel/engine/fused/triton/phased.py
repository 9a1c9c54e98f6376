"""A step of several products, run by Triton: in one launch for all steps, or in some for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import arguments
from ..graph import ACROSS, Phases
from ..storage import choose
from .emit import cost
from .function import ROWS, legend, padded
from .launched import Launched
from .phases import PhasesSource

if TYPE_CHECKING:
    from . import Triton

ACROSS_COST = 1e6
"""Of a product or a sum, in additions: it is never done again."""
TILE = 512
"""Numbers of a vector that a program has, if torch multiplies between launches."""
SCHEDULES = {
    "several": "in one launch for all steps, in which each program reads the matrices again for each of its products",
    "by steps": "in a launch for each part of a step, and torch's products in between, for its vectors are too wide",
}


class PhasedKernel(Launched):
    """Such a step for this target.

    Raises:
        Unsupported: it reduces what `PhasesSource` does not.
    """

    def __init__(
        self,
        target: Triton,
        step: Phases,
        dtype: torch.dtype,
        sizes: Sequence[int],
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None,
    ) -> None:
        multiplied = [n for o in step.outers for n in (*(e for e, _ in o.operands), *(d for d, _, _ in o.blocks))]
        adjoint = {*step.d_state, *step.d_wx, *step.d_extra, *step.d_made, *multiplied}
        self.saved = choose(step.graph, step.new, adjoint, _at_hand, _cost) if keep is None else keep
        given = (step, dtype, sizes, update_mask, self.saved, keep is None)
        self.step, self.source, self.schedule = step, PhasesSource(*given), "several"
        warps, width = 8 if self.source.widest > 16 else 4, padded(self.source.widest)
        if self.source.widest * max(4, dtype.itemsize) > target.widest * 4:
            self.source, self.schedule = PhasesSource(*given, rows=max(1, min(ROWS, TILE // width))), "by steps"
            warps = min(16, max(4, width * 4 // TILE))
        self.kept = self.source.kept.total
        options = {"num_warps": warps, "maxnreg": 255}
        counts = {"INPUTS": (self.source.inputs.total, "numbers of the input that a step reads")}
        counts["H"] = (sizes[0], "units of the first state")
        passed = arguments.phased(len(step.new), len(step.names))
        words = legend(self.source.functions.values(), counts, passed, step.names)
        super().__init__(self.source.functions, words, target.interpreted, SCHEDULES[self.schedule], dtype, options)

    def unpack(self, kept: Tensor) -> list[Tensor]:
        return self.source.kept.split(kept)

    def forward(self, x: Tensor, given: dict[str, Any]) -> None:
        values = self.read(x, given) | {f"last{k}": last for k, last in enumerate(given["last"])}
        values |= {"out": given["out"], "saved": given.get("saved")}
        if self.schedule == "several":
            self.run("forward", x, values, x.size(0), {"SAVE": "saved" in given})
        else:
            self.turns("forward", x, values, self.on(values, x.size(0)), {"SAVE": "saved" in given})

    def backward(self, x: Tensor, given: dict[str, Any]) -> None:
        source, places = self.source, x.shape[:2]
        carried = self.carried(given)
        values = self.read(x, given) | {f"carried{k}": d for k, d in enumerate(carried)}
        values |= {name: given.get(name) for name in ("out", "saved", "d_out")}
        d_x = given.get("d_x")
        values["d_x"] = x.new_empty(x.shape) if d_x is None else d_x
        values["multiplied"] = multiplied = x.new_empty(*places, source.multiplied.total)
        values["d_extra"] = d_extra = x.new_zeros(x.size(1), source.extra.total, dtype=self.wide)
        values["d_made"] = d_made = x.new_empty(*places, source.sizes.total if "norms" in given else 0)
        flags = {"D_OUT": "d_out" in given, "NORMS": "norms" in given}
        if self.schedule == "several":
            self.run("backward", x, values, x.size(0), flags)
        else:
            self.turns("backward", x, values, self.back(values, x.size(0)), flags)
        for found, d in zip(given["d_state"], carried, strict=True):
            if found is not None:
                found.copy_(d)
        if "norms" in given:
            parts = source.sizes.split(d_made.double().square())
            given["norms"] += torch.stack([part.sum(-1) for part in parts], -1)
        self.parameters(dict(zip(self.step.names, given["d_weights"], strict=True)), multiplied, d_extra)

    def parameters(self, gradients: dict[str, Tensor | None], multiplied: Tensor, d_extra: Tensor) -> None:
        """Add up the gradients of parameters, of which None is not wanted, over the sequences and the steps."""
        source = self.source
        for (name, block, units), part in zip(self.step.extra, source.extra.split(d_extra.sum(0)), strict=True):
            d = gradients[name]
            if d is not None:
                d.view(-1)[block * units : (block + 1) * units] += part
        factors = dict(zip(source.pairs, source.multiplied.split(multiplied.flatten(0, 1)), strict=True))
        for heads, operands, blocks in self.step.outers:
            for e, height, matrices in blocks:
                left = factors[e, height * heads].unflatten(-1, (heads, height))
                for pair, (name, offset, row, column, apart, columns) in zip(operands, matrices, strict=True):
                    d = gradients[name]
                    if d is not None:
                        right = factors[pair].unflatten(-1, (heads, columns))
                        part = torch.as_strided(d, (heads, height, columns), (apart, row, column), offset)
                        part += left.permute(1, 2, 0) @ right.transpose(0, 1)

    def read(self, x: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        values = self.always(given) | {f"w{k}": w for k, w in enumerate(given["weights"])}
        wide = max([2 * self.source.scratch, *(between.columns.total for between in self.source.between.values())])
        values["scratch"] = x.new_empty(x.size(1) * wide, dtype=self.wide)
        return values | {"x": x.contiguous()}

    def turns(
        self, which: str, x: Tensor, values: dict[str, Any], steps: Iterable[dict[str, Any]], flags: dict[str, bool]
    ) -> None:
        """A pass, by turns with torch, which in half precision multiplies in float32."""
        between = self.source.between[which]
        scratch = values["scratch"][: x.size(1) * between.columns.total].view(x.size(1), between.columns.total)
        weights = {name: values[f"w{k}"].to(self.wide) for k, name in enumerate(self.step.names)}
        for now in steps:
            for k in range(len(between.turns)):
                self.run(f"{which}{k}", x, now, 1, flags)
                between.multiply(k, scratch, weights)
            self.run(which, x, now, 1, flags)

    def run(self, name: str, x: Tensor, values: dict[str, Any], steps: int, flags: dict[str, bool]) -> None:
        source, batch = self.source, x.size(1)
        most = max(values["scratch"].numel() // batch, source.inputs.total, source.kept.total, source.multiplied.total)
        self.launch(name, -(-batch // source.rows), x, values, steps, flags, most)


def _cost(op: str) -> float:
    return ACROSS_COST if op in ACROSS else cost(op)


def _at_hand(leaf: tuple) -> bool:
    """Whether the adjoint has it without its being stored."""
    return leaf[0] != "state" or leaf[1] == 0
