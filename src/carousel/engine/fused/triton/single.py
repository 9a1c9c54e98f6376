"""A step with one product, or none, run by Triton: in one launch for all steps, or in one for each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..graph import Node, Step, Unsupported
from ..storage import choose
from ..target import Kernel
from .build import load
from .emit import FLAGS, cost
from .function import BLOCK, ROWS, padded
from .product import Held, Streamed, room
from .source import FLAGS_OF, Source

if TYPE_CHECKING:
    from . import Triton

SINGLE = "with Triton, {}; it has been compiled and interpreted, and not run on a GPU yet"
SCHEDULES = {
    "pointwise": "in one launch for all steps, for no unit's step needs another's state",
    "on chip": "in one launch for all steps, each program with all weights of U on its chip, where they have room",
    "streamed": "in one launch for all steps, in which each program reads U again, for it has no room on a chip",
    "by steps": "in a launch for each step, and a product of torch's before it, for U is too large for one program",
}


class SingleKernel(Kernel):
    """Such a step for this target.

    Raises:
        Unsupported: the step has a projection.
    """

    def __init__(
        self,
        target: Triton,
        step: Step,
        dtype: torch.dtype,
        hidden_size: int,
        share: Sequence[int],
        keep: tuple[int, ...] | None,
    ) -> None:
        if step.projected is not None:
            raise Unsupported("the Triton kernel has no projection")
        graph, adjoint = step.graph, {*step.d_wx, *step.d_uh, *step.d_state, *step.d_made, *step.d_own}
        self.saved = choose(graph, step.new, adjoint, _at_hand, cost) if keep is None else keep
        self.kept = hidden_size * len(self.saved)
        self.step, self.dtype, self.units = step, dtype, hidden_size
        self.schedule = self.chosen(target)
        self.how = SINGLE.format(SCHEDULES[self.schedule])
        product = {"on chip": Held, "streamed": Streamed}.get(self.schedule)
        source = Source(step, dtype, hidden_size, share, self.saved, product, keep is None)
        self.pointers = {name: tuple(f.pointers) for name, f in source.functions.items()}
        self.sources = {"both": source.text}
        self.functions = load(source.text, target.interpreted)
        self.options = {"num_warps": 4, "enable_fp_fusion": True}
        if product:
            self.options |= {"num_warps": 8 if padded(hidden_size) >= 64 else 4, "maxnreg": 255}

    def chosen(self, target: Triton) -> str:
        """Of `SCHEDULES`."""
        if not self.step.d_uh:
            return "pointwise"
        if room(len(self.step.d_uh), self.units, self.dtype) <= target.room():
            return "on chip"
        return "streamed" if self.units * self.dtype.itemsize <= target.widest * 4 else "by steps"

    def unpack(self, kept: Tensor) -> list[Tensor]:
        return list(kept.unflatten(-1, (len(self.saved), self.units)).unbind(-2))

    def call(self, which: str, x: Tensor, given: dict) -> None:
        device = torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
        with torch.no_grad(), device:
            getattr(self, which)(x, _present(given))

    def forward(self, x: Tensor, given: dict[str, Any]) -> None:
        steps = x.size(0)
        values = self.read(given) | {f"last{k}": last for k, last in enumerate(given["last"])}
        values["wx"] = F.linear(x, given["w_x"], given.get("b_x")) if self.step.maps_input else x.contiguous()
        values["out"], values["saved"] = given["out"], given.get("saved")
        if self.schedule == "streamed":
            values["scratch"] = x.new_empty(2, x.size(1), self.units)
            values["w_t"] = given["w_h"].unflatten(0, (-1, self.units)).transpose(1, 2).contiguous()
        flags = {"SAVE": "saved" in given, "PRECISION": self.precision(x)}
        if self.schedule != "by steps":
            return self.launch("forward", x, values, steps, flags)
        for k, (last, state) in enumerate(zip(given["last"], given["state"], strict=True)):
            last.copy_(state)
            values[f"state{k}"] = last
        for t in range(steps):
            now = self.at(values, t, steps)
            seen = now["state0"] if self.sees_state() else torch.empty_like(now["state0"])
            if not self.sees_state():
                self.launch("look", x, now | {"seen": seen}, 1)
            now["uh"] = F.linear(seen, given["w_h"], given.get("b_h"))
            self.launch("forward", x, now, 1, flags)

    def backward(self, x: Tensor, given: dict[str, Any]) -> None:
        step, H, (steps, batch) = self.step, self.units, x.shape[:2]
        pairs = zip(given["state"], given["d_last"], strict=True)
        carried = [torch.zeros_like(s) if d is None else d.clone() for s, d in pairs]
        values = self.read(given) | {f"carried{k}": d for k, d in enumerate(carried)}
        values |= {name: given.get(name) for name in ("out", "saved", "d_out")}
        d_wx = None if step.maps_input else given.get("d_wx")
        d_wx = x.new_empty(steps, batch, len(step.d_wx) * H) if d_wx is None else d_wx
        d_uh = d_wx if step.d_uh == step.d_wx else x.new_empty(steps, batch, len(step.d_uh) * H)
        d_own = x.new_zeros(len(step.own), batch, H)
        values |= {"d_wx": d_wx, "d_uh": d_uh, "d_own": d_own}
        seen = x.new_empty(steps, batch, H if step.d_uh else 0)
        d_made = x.new_empty(steps, batch, len(step.new), H if "norms" in given else 0)
        values |= {"seen": seen, "d_made": d_made}
        flags = {"D_OUT": "d_out" in given, "NORMS": "norms" in given, "PRECISION": self.precision(x)}
        if self.schedule != "by steps":
            self.launch("backward", x, values, steps, flags)
        for t in reversed(range(steps)) if self.schedule == "by steps" else ():
            now = self.at(values, t, steps)
            if t > 0:
                now["state0"] = values["out"][t - 1]
            self.launch("backward", x, now, 1, flags)
            if step.graph.nodes[step.d_seen] == Node("leaf", ("d_seen",)):
                carried[0].addmm_(now["d_uh"], given["w_h"])
            else:
                self.launch("join", x, now | {"through": now["d_uh"] @ given["w_h"]}, 1)
        for found, d in zip(given["d_state"], carried, strict=True):
            if found is not None:
                found.copy_(d)
        if "norms" in given:
            given["norms"] += d_made.double().square().sum(-1)
        if "d_own" in given:
            torch.sum(d_own, 1, out=given["d_own"])
        _map_gradients(given, "x", d_wx, x)
        _map_gradients(given, "h", d_uh, seen)
        if step.maps_input and "d_x" in given:
            torch.mm(d_wx.flatten(0, 1), given["w_x"], out=given["d_x"].flatten(0, 1))

    def read(self, given: dict[str, Any]) -> dict[str, Any]:
        """What both passes read, by the names of their pointers."""
        values = {f"state{k}": s for k, s in enumerate(given["state"])}
        values |= {f"share{k}": s for k, s in enumerate(given["share"])}
        values |= {name: given[name].view(torch.uint8) for name in FLAGS if name in given}
        values |= {name: given.get(name) for name in ("recurrent", "own", "w_h", "b_h")}
        if values["b_h"] is None and self.step.d_uh:
            values["b_h"] = given["w_h"].new_zeros(len(self.step.d_uh) * self.units)
        return values

    def at(self, values: dict[str, Any], t: int, steps: int) -> dict[str, Any]:
        """A step's part of what has one for each."""
        parts = dict(values)
        for name in ("wx", "out", "d_out", "d_wx", "d_uh", "seen", "d_made", *FLAGS, *self.shares()):
            if values.get(name) is not None:
                parts[name] = values[name][t]
        if values.get("saved") is not None:
            parts["saved"] = values["saved"].view(steps, -1)[t]
        return parts

    def shares(self) -> list[str]:
        return [f"share{k}" for k in range(len(self.step.new))]

    def sees_state(self) -> bool:
        """Whether the hidden map is given the first state as it is."""
        return self.step.graph.nodes[self.step.seen] == Node("leaf", ("state", 0))

    def precision(self, x: Tensor) -> str:
        """How products within a kernel are rounded: as torch's switch has it, TF32, or three times that, which makes a
        float32 of it; Triton's compiler has broken down over float32 itself."""
        if self.dtype == torch.float64:
            return "ieee"
        return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"

    def launch(self, name: str, x: Tensor, values: dict[str, Any], steps: int, flags: dict[str, Any] | None = None):
        batch = x.size(1)
        if batch * self.units * max(8, len(self.saved)) >= 1 << 31:
            raise MemoryError("a step of more than 2^31 numbers")
        pointers = {f"p_{n}": x if values.get(n) is None else values[n] for n in self.pointers[name]}
        programs = -(-batch // ROWS) if self.schedule in ("on chip", "streamed") else -(-batch * self.units // BLOCK)
        flags = {flag: (flags or {})[flag] for flag in FLAGS_OF[name]}
        function = self.functions[name][(programs,)]
        function(**pointers, T=steps, B=batch, **flags, **self.options)


def _present(given: dict[str, Any]) -> dict[str, Any]:
    """Without what is not there, or not wanted; in lists that is None."""

    def there(value: Tensor | None) -> Tensor | None:
        return None if value is None or value.numel() == 0 else value

    lists = {name: [there(t) for t in value] for name, value in given.items() if isinstance(value, list)}
    single = {name: there(value) for name, value in given.items() if name not in lists}
    return {name: value for name, value in single.items() if value is not None} | lists


def _map_gradients(given: dict[str, Any], name: str, d: Tensor, seen: Tensor) -> None:
    """Of a map's weights and bias, from its result's gradients and what it was given, in all steps."""
    if f"d_w_{name}" in given:
        torch.mm(d.flatten(0, 1).t(), seen.flatten(0, 1), out=given[f"d_w_{name}"])
    if f"d_b_{name}" in given:
        torch.sum(d, (0, 1), out=given[f"d_b_{name}"])


def _at_hand(leaf: tuple) -> bool:
    """Whether the adjoint has it without its being stored: h_{t-1} is the output of the step before."""
    return leaf[0] in ("own", *FLAGS, "recurrent", "share", "d_new", "d_seen") or leaf == ("state", 0)
