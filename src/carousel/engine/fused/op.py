"""A compiled kernel as operators of torch, which autograd and torch.compile know: `carousel::forward`, `::backward`."""

import copy
import ctypes
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ...cells.cell import Cell, State, lend
from ..eager import Kinds, Loop, Masks
from . import build
from .cpu import OPERATIONS, Kernel
from .trace import trace

MAPS = ("weight_ih", "bias_ih", "weight_hh", "bias_hh", "weight_hr")
split = 0
"""Members of a team of threads, which share the hidden units; 0 leaves it to the kernel."""


class Fused:
    """A cell's whole recurrence as a kernel.

    Args:
        cell: of it, the code and the shapes matter; it may be on "meta".
        kinds: which masks a run has.
        dtype: float32 or float64.

    Raises:
        Unsupported: the cell's step cannot be expressed.
        BuildError: there is no compiler, or it refuses.
    """

    def __init__(self, cell: Cell, kinds: Kinds, dtype: torch.dtype) -> None:
        self.step, self.kinds = trace(cell, kinds, dtype, OPERATIONS), kinds
        self.kernel = Kernel(self.step, dtype, cell.hidden_size, kinds.share or (0,) * len(cell.states))
        self.libraries = build.load(self.kernel.sources)
        self.dtype, self.hidden_size, self.state_sizes = dtype, cell.hidden_size, cell.state_sizes
        self.cell = copy.copy(lend(cell, dict(cell.named_parameters()) | dict(cell.named_buffers())))
        self.maps_input = type(cell).input_map is Cell.input_map
        maps = [name for name in MAPS if cell._parameters.get(name) is not None]
        keep = {"weight_hr", *(MAPS[:2] if self.maps_input else ()), *(MAPS[2:4] if self.step.d_uh else ())}
        own = [name for name, _ in self.step.own]
        self.names = tuple(dict.fromkeys([*(name for name in maps if name in keep), *own]))
        text = "\0".join([*self.kernel.sources.values(), *self.names, str(self.state_sizes), type(cell).__qualname__])
        self.key = hashlib.sha256(text.encode()).hexdigest()
        KERNELS[self.key] = self

    def run(self, x: Tensor, state: State, tensors: dict[str, Tensor], masks: Masks, norms: Tensor | None = None):
        """As `Loop.forward`, without a record.

        Args:
            x: (T, B, input_size).
            state: (B, H) for each of the cell's states.
            tensors: the cell's parameters and buffers by name.
            masks: of the kinds that the kernel was made with.
            norms: (T, B, states) of float64, to which the backward pass adds the squared norm of the gradient with
                respect to every state after every step.
        """
        weights = [tensors[name] for name in self.names]
        if not self.maps_input:
            x = lend(self.cell, tensors).input_map(x)
        given = [m for m in (*masks[:2], *masks.share) if m is not None]
        save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *state, *weights))
        out, *last, _ = forward(self.key, x, list(state), weights, given, save, norms)
        return out, tuple(last)

    def masks(self, given: Sequence[Tensor]) -> Masks:
        """The way back from a list of those that there are."""
        queue = iter(given)
        reset, recurrent = (next(queue) if there else None for there in self.kinds[:2])
        return Masks(reset, recurrent, tuple(next(queue) if kind else None for kind in self.kinds.share))

    def again(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor]):
        """The same run composed with autograd, for derivatives of higher order."""
        tensors = dict(zip(self.names, weights, strict=True))
        cell = lend(self.cell, tensors)
        if not self.maps_input:
            cell.input_map = lambda x: x
        out, last, _ = Loop(cell)(x, tuple(state), self.masks(masks))
        return [out, *last]

    def own(self, weights: Sequence[Tensor]) -> Tensor:
        """The cell's further parameters as the kernel reads them: (blocks that take part, H)."""
        tensors = dict(zip(self.names, weights, strict=True))
        rows = [
            tensors[name]
            .reshape(-1, self.hidden_size if tensors[name].numel() > 1 else 1)[block]
            .expand(self.hidden_size)
            for name, block in self.step.own
        ]
        return torch.stack(rows) if rows else torch.empty(0)

    def own_gradient(self, name: str, rows: Tensor, like: Tensor) -> Tensor:
        """Of one of these, from (blocks that take part, H)."""
        gradient = torch.zeros_like(like, memory_format=torch.contiguous_format)
        for row, (owner, block) in zip(rows, self.step.own, strict=True):
            if owner == name:
                part = gradient.view(-1, self.hidden_size if like.numel() > 1 else 1)[block]
                part.copy_(row if like.numel() > 1 else row.sum())
        return gradient

    def call(self, which: str, x: Tensor, state, weights, masks, out: Tensor, saved: Tensor | None, *more) -> None:
        steps, batch, _ = x.shape
        x = x if x.stride(-1) == 1 else x.contiguous()
        x = x if self.maps_input else x.contiguous()
        tensors = dict(zip(self.names, weights, strict=True))
        masks = self.masks(masks)
        own = self.own(weights)
        hidden = MAPS[2:4] if self.step.d_uh else ()
        maps = [
            tensors.get(name) if name in (*MAPS[:2] * self.maps_input, *hidden, "weight_hr") else None for name in MAPS
        ]
        share = [*masks.share] or [None] * len(state)
        arguments = [x if self.maps_input else None, None if self.maps_input else x]
        arguments += [*maps, own, *state, masks.reset, masks.recurrent, *share, out, saved, *more]
        dense = [t if t is None or t is x else t.contiguous() for t in arguments]
        sizes = (
            steps,
            batch,
            x.size(-1),
            self.hidden_size,
            self.state_sizes[0],
            *x.stride()[:2],
            torch.get_num_threads(),
            split,
        )
        pointers = (ctypes.c_void_p * len(dense))(
            *(None if t is None or t.numel() == 0 else t.data_ptr() for t in dense)
        )
        if self.libraries[which][which]((ctypes.c_long * len(sizes))(*sizes), pointers):
            raise MemoryError("no memory for the kernel's buffers")


KERNELS: dict[str, Fused] = {}


@torch.library.custom_op("carousel::forward", mutates_args=())
def forward(
    key: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    save: bool,
    norms: Tensor | None,
) -> list[Tensor]:
    """The output (T, B, H), the last states, and what the backward pass needs, which is empty unless to be saved."""
    results = _empty(key, x, state, weights, masks, save, norms)
    out, *last, saved = results
    KERNELS[key].call("forward", x, state, weights, masks, out, saved if save else None, *last)
    return results


@forward.register_fake
def _empty(key, x, state, weights, masks, save, norms) -> list[Tensor]:
    fused = KERNELS[key]
    steps, batch, _ = x.shape
    kept = steps * batch * fused.kernel.width * len(fused.kernel.saved) if save else 0
    last = [x.new_empty(batch, size) for size in fused.state_sizes]
    return [x.new_empty(steps, batch, fused.state_sizes[0]), *last, x.new_empty(kept)]


@torch.library.custom_op("carousel::backward", mutates_args=())
def backward(
    key: str,
    arriving: Sequence[Tensor],
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    out: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
    watch: bool,
) -> list[Tensor]:
    """The gradients of x, the states and the weights, those wanted, and if `watch` the squared norms of those of the
    states. `arriving`: of the output and the last states, empty where there is none."""
    fused = KERNELS[key]
    d_x, *others, norms = _empty_gradients(key, arriving, x, state, weights, masks, out, saved, wanted, watch)
    norms.zero_()
    d_state, d_weights = others[: len(state)], dict(zip(fused.names, others[len(state) :], strict=True))
    own = {name for name, _ in fused.step.own}
    d_maps = [d_weights.get(name) if name not in own else None for name in MAPS]
    rows = x.new_empty(len(fused.step.own), fused.hidden_size) if any(d_weights[n].numel() for n in own) else None
    inputs = (d_x, None) if fused.maps_input else (None, d_x)
    fused.call("backward", x, state, weights, masks, out, saved, *arriving, *inputs, *d_maps, rows, *d_state, norms)
    for k, name in enumerate(fused.names):
        if name in own and d_weights[name].numel():
            d_weights[name] = fused.own_gradient(name, rows, weights[k])
    return [d_x, *d_state, *d_weights.values(), norms]


@backward.register_fake
def _empty_gradients(key, arriving, x, state, weights, masks, out, saved, wanted, watch) -> list[Tensor]:
    inputs = (x, *state, *weights)
    gradients = [t.new_empty(t.shape if want else 0) for t, want in zip(inputs, wanted, strict=True)]
    return [*gradients, x.new_empty((*x.shape[:2], len(state)) if watch else 0, dtype=torch.float64)]


def _remember(ctx, inputs, output) -> None:
    ctx.key, x, state, weights, masks, _, norms = inputs
    out, *_, saved = output
    ctx.save_for_backward(x, *state, *weights, *masks, out, saved, *([] if norms is None else [norms]))
    ctx.counts = len(state), len(weights), len(masks)
    ctx.set_materialize_grads(False)


def _derive(ctx, arriving):
    """The formula of autograd."""
    states, weights, masks = ctx.counts
    x, *rest = ctx.saved_tensors
    queue = iter(rest)
    state, weights, masks = ([next(queue) for _ in range(n)] for n in (states, weights, masks))
    out, saved, norms = next(queue), next(queue), next(queue, None)
    needs = [ctx.needs_input_grad[1], *ctx.needs_input_grad[2], *ctx.needs_input_grad[3]]
    inputs = [x, *state, *weights]
    arriving = arriving[: 1 + len(state)]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # a derivative of this is wanted too
        outputs = KERNELS[ctx.key].again(x, state, weights, masks)
        pairs = [(y, d) for y, d in zip(outputs, arriving, strict=True) if d is not None and y.requires_grad]
        wanted = [t for t, need in zip(inputs, needs, strict=True) if need]
        ys, ds = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(ys, wanted, ds, create_graph=True, allow_unused=True))
        gradients = [next(found) if need else None for need in needs]
    else:
        arriving = [x.new_empty(0) if d is None else d for d in arriving]
        watch = norms is not None
        *gradients, squares = backward(ctx.key, arriving, x, state, weights, masks, out, saved, needs, watch)
        gradients = [d if need else None for d, need in zip(gradients, needs, strict=True)]
        if watch:
            norms += squares
    d_x, d_state, d_weights = gradients[0], gradients[1 : 1 + len(state)], gradients[1 + len(state) :]
    return None, d_x, d_state, d_weights, [None] * len(masks), None, None


forward.register_autograd(_derive, setup_context=_remember)
