"""A cell's whole recurrence as a kernel: what is read of a run, handed over, and given back."""

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...cells.cell import Cell, State, with_tensors
from ..eager import Kinds, Loop, Masks, Norms
from ..registry import REGISTRY
from . import op
from .graph import Unsupported
from .input_map import map_input
from .target import Kernel, Target

INPUT_MAP = {"weight_ih": "w_x", "bias_ih": "b_x"}
HIDDEN_MAP = {"weight_hh": "w_h", "bias_hh": "b_h"}
PROJECTION = {"weight_hr": "w_r"}
"""A cell's parameters, and what the kernel calls them."""


class Fused:
    """A cell's whole recurrence as a kernel.

    Args:
        cell: its code and its shapes matter; it may be on "meta".
        kinds: which masks a run has.
        dtype: one of the target's.
        step: the cell's, as `trace` has written it down.
        target: where it runs.

    Raises:
        Unsupported, BuildError: as `Target.kernel`.
    """

    elsewhere: tuple[str, ...] = ()
    """Of `names`, those that have their gradients outside of the operators."""

    def __init__(self, cell: Cell, kinds: Kinds, dtype: torch.dtype, step: Any, target: Target) -> None:
        self.kinds, self.hidden_size, self.state_sizes = kinds, cell.hidden_size, cell.state_sizes
        self.cell = copy.deepcopy(cell)  # which may change, or come to its end
        self.step, self.dtype, self.target = step, dtype, target
        self.recorder: Kernel | None = None
        self.update_mask = kinds.update_mask or (0,) * len(self.state_sizes)
        there = {"reset": kinds.reset, "recurrent": kinds.recurrent}
        there |= {f"detach_{way}": getattr(kinds, f"detach_{way}") == 2 for way in ("gates", "carousel")}
        self.single = [name for name in there if there[name]]
        """The masks that there are but for `update_mask`, in the operators' order; that comes last."""
        self.kernel = self.emit()
        self.prepare(cell, step)
        sizes = {name: tuple(t.shape) for name, t in (*cell.named_parameters(), *cell.named_buffers())}
        self.shapes = {name: sizes[name] for name in self.names if name in sizes}
        identity = (target.device, self.kernel.sources, step, self.shapes, self.extra, self.maps, self.kinds)
        identity += (self.state_sizes, self.hidden_size, self.features)
        self.key = hashlib.sha256(repr(identity).encode()).hexdigest()
        REGISTRY.kernels[self.key] = self

    def prepare(self, cell: Cell, step: Any) -> None:
        """Find out what of the cell's it reads."""
        self.maps_input = step.maps_input
        self.maps = (INPUT_MAP if self.maps_input else {}) | (HIDDEN_MAP if step.d_uh else {}) | PROJECTION
        self.extra = step.extra
        there = [name for name in self.maps if cell._parameters.get(name) is not None]
        self.names = tuple(dict.fromkeys([*there, *(name for name, _ in self.extra)]))
        self.features = cell.input_size if self.maps_input else len(step.d_wx) * cell.hidden_size

    def emit(self, keep: tuple[int, ...] | None = None) -> Kernel:
        return self.target.kernel(self.step, self.dtype, self.hidden_size, self.state_sizes, self.update_mask, keep)

    def prepare_record(self) -> None:
        """Make another kernel, of which the forward pass keeps the gates and the states.

        Raises:
            Unsupported: a gate can't be kept.
            BuildError: as at first.
        """
        if self.recorder is None:
            if self.step.gates is None:
                raise Unsupported("a gate is not H numbers of each sequence that its states are made of")
            self.recorder = self.emit((*(n for _, n in self.step.gates), *self.step.new[1:]))

    def misfit(self, x: Tensor, state: State, tensors: dict[str, Tensor]) -> str:
        """What of these does not have the shape that the kernel reads, and so is the loop's to judge."""
        shapes = [(name, tensors[name], shape) for name, shape in self.shapes.items()]
        shapes += [("the state", s, (x.size(1), n)) for s, n in zip(state, self.state_sizes, strict=True)]
        for name, tensor, shape in shapes:
            if tensor.shape != shape:
                return f"{name} has shape {list(tensor.shape)}, not {list(shape)}"
        return ""

    def run(
        self, cell: Cell, x: Tensor, state: State, tensors: dict[str, Tensor], masks: Masks, norms: Norms | None = None
    ) -> tuple[Tensor, State]:
        """As `Loop.forward`, with the cell's parameters and buffers by name, and without a record.

        Raises:
            RuntimeError: what the input map, or a layer, gives is not what the kernel was made for.
        """
        x, weights = self.reads(cell, x, tensors)
        given = self.listed(masks, x.size(1))
        save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *state, *weights))
        return op.run(self.key, x, state, weights, given, save, norms.token if norms else 0)

    def record(
        self, cell: Cell, x: Tensor, state: State, tensors: dict[str, Tensor], masks: Masks
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """As `Loop.forward` with a record, without derivatives."""
        x, weights = self.reads(cell, x, tensors)
        recorder: Any = self.recorder
        given, places = self.listed(masks, x.size(1)), x.shape[:2]
        out, *last, _ = op.empty_results(self.key, x, state, weights, given, False, 0)
        kept = x.new_empty(*places, recorder.kept)
        self.call(recorder, "forward", x, state, weights, given, out=out, saved=kept, last=last)
        gates, H = [name for name, _ in self.step.gates], self.hidden_size
        pairs = zip(recorder.unpack(kept), [*[H] * len(gates), *self.state_sizes[1:]], strict=True)
        found = [part.expand(*places, size).contiguous() for part, size in pairs]
        states = dict(zip(cell.states, [out.clone(), *found[len(gates) :]], strict=True))
        return out, last, dict(zip(gates, found[: len(gates)], strict=True)) | states

    def reads(self, cell: Cell, x: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What the kernel reads of the input, and those parameters and buffers that take part. The cell is asked for
        its input map, where that is none of the kernel's."""
        dtype, device, places = x.dtype, x.device, x.shape[:2]
        x = x if self.maps_input else map_input(cell, x, tensors, self.target)
        if x.shape != (*places, self.features) or x.dtype != dtype or x.device != device:
            raise RuntimeError(
                f"the kernel wants {self.features} features of {dtype}, got {list(x.shape)} of {x.dtype}"
            )
        return x, [tensors[name] for name in self.names]

    def again(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor], norms):
        """The same run composed with autograd, for derivatives of higher order: the output and the last states."""
        idle = {name: x.new_zeros(t.shape) for name, t in self.cell.named_parameters() if name not in self.names}
        cell = with_tensors(self.cell, idle | dict(zip(self.names, weights, strict=True)))
        if not self.maps_input:
            cell.input_map = lambda x: x
        out, last, _ = Loop(cell)(x, tuple(state), self.masks(masks), norms=norms)
        return [out, *last]

    def listed(self, masks: Masks, batch: int) -> list[Tensor]:
        """The masks that there are."""
        single = [getattr(masks, name) for name in self.single]
        for k, name in enumerate(self.single):
            if name.startswith("detach"):
                single[k] = single[k].expand(-1, batch, 1)  # (T, B, 1)
        return [*single, *(mask for mask in masks.update_mask if mask is not None)]

    def named(self, given: Sequence[Tensor]) -> dict:
        """The inverse of `listed`: by the names that `Masks` has, and the kernel."""
        queue = iter(given)
        found = {name: next(queue) for name in self.single}
        return found | {"update_mask": [next(queue) if kind else None for kind in self.update_mask]}

    def masks(self, given: Sequence[Tensor]) -> Masks:
        always = {f"detach_{way}": getattr(self.kinds, f"detach_{way}") == 1 for way in ("gates", "carousel")}
        found: dict[str, Any] = always | self.named(given)
        found["update_mask"] = tuple(found["update_mask"]) if self.kinds.update_mask else ()
        return Masks(**found)

    def gradients(self, x, state, weights, masks, d_x, d_weights, given: dict) -> None:
        """Fill in the gradients, of the states too, whose places are `given`; what is empty is not wanted."""
        read = {name for name, _ in self.extra}
        like = {n: t for n, t in zip(self.names, weights, strict=True) if n in read and d_weights[n].numel()}
        d_extra = x.new_empty(len(self.extra) if like else 0, self.hidden_size)
        found = {f"d_{called}": d_weights.get(name) for name, called in self.maps.items()}
        found |= {"d_x" if self.maps_input else "d_wx": d_x, "d_extra": d_extra}
        self.call(self.kernel, "backward", x, state, weights, masks, **given, **found)
        for name, d in self.extra_gradients(d_extra, like).items() if like else ():
            d_weights[name] = d_weights[name] + d if name in self.maps else d  # `update` may read a map's bias, too

    def blocks(self, tensor: Tensor) -> Tensor:
        """One of the cell's extra parameters as the trace counts it: blocks of H, or a single number."""
        return tensor.reshape(-1, self.hidden_size if tensor.numel() > 1 else 1)

    def extra_gradients(self, d_extra: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of these parameters, from those of the blocks that take part, (len(extra), H)."""
        gradients = {name: torch.zeros_like(t, memory_format=torch.contiguous_format) for name, t in like.items()}
        for (name, block), row in zip(self.extra, d_extra, strict=True):
            if name in gradients:
                part = self.blocks(gradients[name])[block]
                part.copy_(row if part.numel() == row.numel() else row.sum())
        return gradients

    def call(self, kernel: Kernel, which: str, x: Tensor, state, weights, masks, **results) -> None:
        """Run a pass of a kernel, with the places for its results by the names of `arguments`."""
        tensors = dict(zip(self.names, weights, strict=True))
        extra = [self.blocks(tensors[name])[block].expand(self.hidden_size) for name, block in self.extra]
        values = {called: tensors[name].contiguous() for name, called in self.maps.items() if name in tensors}
        values["extra"] = torch.stack(extra) if extra else None
        kernel.call(which, x, values | self.always(state, masks) | results)

    def always(self, state, masks) -> dict:
        """What every kernel takes, by name."""
        given = self.named([mask.contiguous() for mask in masks])
        given["state"] = [s.contiguous() for s in state]
        return given
