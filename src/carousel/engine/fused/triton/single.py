"""A step with one product, or none, run by Triton: in one launch for all steps, or in one for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import arguments
from ..graph import Node, Step
from ..storage import choose
from .emit import FLAGS, cost
from .function import BLOCK, ROWS, legend, padded
from .launched import Launched
from .product import Held, Streamed, room
from .source import Source

if TYPE_CHECKING:
    from . import Triton

SCHEDULES = {
    "pointwise": "in one launch for all steps, for no unit's step needs another's state",
    "on chip": "in one launch for all steps, each program with all weights of U on its chip, where they have room",
    "streamed": "in one launch for all steps, in which each program reads U again, for it has no room on a chip",
    "by steps": "in a launch for each step, and a product of torch's before it, for U is too large for one program",
}


class SingleKernel(Launched):
    """Such a step for this target."""

    def __init__(
        self,
        target: Triton,
        step: Step,
        dtype: torch.dtype,
        hidden_size: int,
        update_mask: Sequence[int],
        keep: tuple[int, ...] | None,
    ) -> None:
        graph, adjoint = step.graph, {*step.d_wx, *step.d_uh, *step.d_state, *step.d_made, *step.d_extra}
        self.saved = choose(graph, step.new, adjoint, _at_hand, cost) if keep is None else keep
        self.kept = hidden_size * len(self.saved)
        self.step, self.dtype, self.units = step, dtype, hidden_size
        self.schedule = self.chosen(target)
        product = {"on chip": Held, "streamed": Streamed}.get(self.schedule)
        source = Source(step, dtype, hidden_size, update_mask, self.saved, product, keep is None)
        options = {"num_warps": 8 if padded(hidden_size) >= 64 else 4, "maxnreg": 255} if product else {}
        counts = {
            "H": (hidden_size, "units of a sequence"),
            "GX": (len(step.d_wx), "blocks of H rows in W x"),
            "GU": (len(step.d_uh), "and in U h"),
            "EXTRA": (len(step.extra), "extra parameters of H numbers"),
        }
        words = legend(source.functions.values(), counts, arguments.single(len(step.new)))
        super().__init__(source.functions, words, target.interpreted, SCHEDULES[self.schedule], dtype, options)

    def chosen(self, target: Triton) -> str:
        """Of `SCHEDULES`."""
        if not self.step.d_uh:
            return "pointwise"
        if room(len(self.step.d_uh), self.units, self.dtype) <= target.room():
            return "on chip"
        return "streamed" if self.units * max(4, self.dtype.itemsize) <= target.widest * 4 else "by steps"

    def unpack(self, kept: Tensor) -> list[Tensor]:
        return list(kept.unflatten(-1, (len(self.saved), self.units)).unbind(-2))

    def forward(self, x: Tensor, given: dict[str, Any]) -> None:
        steps = x.size(0)
        values = self.read(given) | {f"last{k}": last for k, last in enumerate(given["last"])}
        values["wx"] = F.linear(x, given["w_x"], given.get("b_x")) if self.step.maps_input else x.contiguous()
        values["out"], values["saved"] = given["out"], given.get("saved")
        if self.schedule == "streamed":
            values["scratch"] = x.new_empty(2, x.size(1), self.units, dtype=self.wide)
            values["w_t"] = given["w_h"].unflatten(0, (-1, self.units)).transpose(1, 2).contiguous()
        flags = {"SAVE": "saved" in given}
        if self.schedule == "by steps":
            self.steps_on(x, values, steps, flags, given.get("b_h"))
        else:
            self.run("forward", x, values, steps, flags)

    def backward(self, x: Tensor, given: dict[str, Any]) -> None:
        step, H, (steps, batch) = self.step, self.units, x.shape[:2]
        carried = self.carried(given)
        values = self.read(given) | {f"carried{k}": d for k, d in enumerate(carried)}
        values |= {name: given.get(name) for name in ("out", "saved", "d_out")}
        d_wx = None if step.maps_input else given.get("d_wx")
        d_wx = x.new_empty(steps, batch, len(step.d_wx) * H) if d_wx is None else d_wx
        d_uh = d_wx if step.d_uh == step.d_wx else x.new_empty(steps, batch, len(step.d_uh) * H)
        d_extra = x.new_zeros(len(step.extra), batch, H, dtype=self.wide)
        values |= {"d_wx": d_wx, "d_uh": d_uh, "d_extra": d_extra}
        hidden_input = x.new_empty(steps, batch, H if step.d_uh else 0)
        d_made = x.new_empty(steps, batch, len(step.new), H if "norms" in given else 0)
        values |= {"hidden_input": hidden_input, "d_made": d_made}
        flags = {"D_OUT": "d_out" in given, "NORMS": "norms" in given}
        if self.schedule != "by steps":
            self.run("backward", x, values, steps, flags)
        else:
            self.steps_back(x, values, steps, flags)
        for found, d in zip(given["d_state"], carried, strict=True):
            if found is not None:
                found.copy_(d)
        if "norms" in given:
            given["norms"] += d_made.double().square().sum(-1)
        if "d_extra" in given:
            given["d_extra"].copy_(d_extra.sum(1))
        _map_gradients(given, "x", d_wx, x)
        _map_gradients(given, "h", d_uh, hidden_input)
        if step.maps_input and "d_x" in given:
            torch.mm(d_wx.flatten(0, 1), given["w_x"], out=given["d_x"].flatten(0, 1))

    def steps_back(self, x: Tensor, values: dict[str, Any], steps: int, flags: dict[str, bool]) -> None:
        """The backward pass step by step. In half precision torch multiplies in float32, here and below."""
        alone = self.step.graph.nodes[self.step.d_hidden_input] == Node("leaf", ("d_hidden_input",))
        w_h = values["w_h"].to(self.wide)
        for now in self.back(values, steps):
            self.run("backward", x, now, 1, flags)
            d_uh = now["d_uh"].to(self.wide)
            if alone:
                values["carried0"].addmm_(d_uh, w_h)
            else:
                self.run("join", x, now | {"through": d_uh @ w_h}, 1, {})

    def steps_on(self, x: Tensor, values: dict[str, Any], steps: int, flags: dict[str, bool], bias: Any) -> None:
        """The forward pass step by step."""
        alone = self.step.graph.nodes[self.step.hidden_input] == Node("leaf", ("state", 0))
        w_h, bias = values["w_h"].to(self.wide), None if bias is None else bias.to(self.wide)
        hidden_input = torch.empty_like(values["state0"])
        for now in self.on(values, steps):
            if not alone:
                self.run("look", x, now | {"hidden_input": hidden_input}, 1, {})
            now["uh"] = F.linear(now["state0"] if alone else hidden_input.to(self.wide), w_h, bias)
            self.run("forward", x, now, 1, flags)

    def read(self, given: dict[str, Any]) -> dict[str, Any]:
        """What both passes read, by the names of their pointers."""
        values = self.always(given)
        values |= {name: given.get(name) for name in ("extra", "w_h", "b_h")}
        if values["b_h"] is None and self.step.d_uh:
            values["b_h"] = given["w_h"].new_zeros(len(self.step.d_uh) * self.units)
        return values

    def run(self, name: str, x: Tensor, values: dict[str, Any], steps: int, flags: dict[str, bool]) -> None:
        in_rows = self.schedule in ("on chip", "streamed")
        programs = -(-x.size(1) // ROWS) if in_rows else -(-x.size(1) * self.units // BLOCK)
        step = self.step
        most = max(map(len, (step.d_wx, step.d_uh, step.new, step.extra, self.saved, (step.hidden_input,) * 2)))
        self.launch(name, programs, x, values, steps, flags, self.units * most)


def _map_gradients(given: dict[str, Any], name: str, d: Tensor, inputs: Tensor) -> None:
    """Of a map's weights and bias, from its result's gradients and what it was given, in all steps."""
    if f"d_w_{name}" in given:
        torch.mm(d.flatten(0, 1).t(), inputs.flatten(0, 1), out=given[f"d_w_{name}"])
    if f"d_b_{name}" in given:
        torch.sum(d, (0, 1), out=given[f"d_b_{name}"])


def _at_hand(leaf: tuple) -> bool:
    """Whether the adjoint has it without its being stored: h_{t-1} is the output of the step before."""
    return leaf[0] in ("extra", *FLAGS, "recurrent", "update_mask", "d_new", "d_hidden_input") or leaf == ("state", 0)
