"""A kernel as operators of torch, `carousel::forward` and `carousel::backward`, which autograd and compilers know."""

import copy
import ctypes
import hashlib
import os
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor, peek_interpreter_stack
from torch.utils import _pytree as pytree

from ...cells.cell import Cell, State, lend
from ..eager import WATCHED, Kinds, Loop, Masks, Norms, derivative
from . import build
from .cpu import Kernel
from .graph import Step, Unsupported

INPUT_MAP = {"weight_ih": "w_x", "bias_ih": "b_x"}
HIDDEN_MAP = {"weight_hh": "w_h", "bias_hh": "b_h"}
PROJECTION = {"weight_hr": "w_r"}
"""A cell's parameters, and what the kernel calls them."""

team = 0
"""Threads that share the hidden units of the same sequences; 0 leaves it to the kernel."""
openmp = True
"""Whether the kernel may use the threads that torch has; a forked child has none of them."""


def _without_openmp() -> None:
    global openmp
    openmp = False


os.register_at_fork(after_in_child=_without_openmp)


class Fused:
    """A cell's whole recurrence as a kernel.

    Args:
        cell: its code and its shapes matter; it may be on "meta".
        kinds: which masks a run has.
        dtype: float32 or float64.
        step: the cell's, as `trace` has written it down.

    Raises:
        BuildError: there is no compiler, or it refuses.
    """

    elsewhere: tuple[str, ...] = ()
    """Of `names`, those that have their gradients outside of the operators."""

    def __init__(self, cell: Cell, kinds: Kinds, dtype: torch.dtype, step: Step) -> None:
        self.kinds, self.hidden_size, self.state_sizes = kinds, cell.hidden_size, cell.state_sizes
        self.cell = copy.deepcopy(cell)  # which may change, or come to its end
        self.step, self.dtype, self.recorder = step, dtype, None
        self.share = kinds.share or (0,) * len(self.state_sizes)
        there = {"reset": kinds.reset, "recurrent": kinds.recurrent}
        there |= {f"detach_{way}": getattr(kinds, f"detach_{way}") == 2 for way in ("gates", "carousel")}
        self.single = [name for name in there if there[name]]
        """The masks that there are but for `share`, in the order in which the operators take them; that comes last."""
        known = self.prepare(cell, kinds, dtype, step), step.gates
        libraries = build.load(self.kernel.sources)
        self.passes = {which: (lib[which], self.kernel.signatures[which]) for which, lib in libraries.items()}
        sizes = {name: tuple(t.shape) for name, t in (*cell.named_parameters(), *cell.named_buffers())}
        self.shapes = {name: sizes[name] for name in self.names if name in sizes}
        identity = (known, self.shapes, self.own, self.maps, self.kinds, self.state_sizes)
        identity += (self.hidden_size, self.features)
        self.key = hashlib.sha256(repr(identity).encode()).hexdigest()
        KERNELS[self.key] = self

    def prepare(self, cell: Cell, kinds: Kinds, dtype: torch.dtype, step: Step) -> object:
        """Make the kernel, and say what of the cell's it reads; return what it depends on."""
        self.kernel = self.emit()
        self.maps_input = step.maps_input
        self.maps = (INPUT_MAP if self.maps_input else {}) | (HIDDEN_MAP if step.d_uh else {}) | PROJECTION
        self.own = step.own
        there = [name for name in self.maps if cell._parameters.get(name) is not None]
        self.names = tuple(dict.fromkeys([*there, *(name for name, _ in self.own)]))
        self.features = cell.input_size if self.maps_input else len(step.d_wx) * cell.hidden_size
        return self.kernel.sources

    def emit(self, keep: tuple[int, ...] | None = None) -> Kernel:
        return Kernel(self.step, self.dtype, self.hidden_size, self.share, keep)

    def prepare_record(self) -> None:
        """Make another kernel, of which the forward pass keeps the gates and the states.

        Raises:
            Unsupported: a gate can't be kept.
            BuildError: as at first.
        """
        if self.recorder is None:
            if self.step.gates is None:
                raise Unsupported("a gate is not H numbers of each sequence that its states are made of")
            recorder = self.emit((*(n for _, n in self.step.gates), *self.step.new[1:]))
            library = build.load({"record": recorder.sources["forward"]})["record"]
            self.passes["record"] = library["forward"], recorder.signatures["forward"]
            self.recorder = recorder

    def misfit(self, x: Tensor, state: State, tensors: dict[str, Tensor]) -> str:
        """What of these does not have the type or the shape that the kernel reads, and so is the loop's to judge."""
        shapes = [(name, tensors[name], shape) for name, shape in self.shapes.items()]
        shapes += [("the state", s, (x.size(1), n)) for s, n in zip(state, self.state_sizes, strict=True)]
        for name, tensor, shape in shapes:
            if tensor.is_floating_point() and tensor.dtype != x.dtype:
                return f"the kernel takes tensors of one type, not {x.dtype} and {tensor.dtype}"
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
        arguments = (self.key, x, list(state), weights, given, save, norms.token if norms else 0)
        if _is_watched():
            out, *last, _ = _operators.forward(*arguments)
        elif save:  # by autograd alone: to be dispatched, with what that does to lists, takes as long as ten steps
            out, *last = _Run.apply(self.key, arguments[-1], (len(state), len(weights)), x, *state, *weights, *given)
            return out, tuple(last)
        else:
            out, *last, _ = forward(*arguments)
        # The adjoint reads the output again; the caller gets a copy (under 1% of a step) to write into, as from torch.
        return out.clone() if save else out, tuple(last)

    def record(
        self, cell: Cell, x: Tensor, state: State, tensors: dict[str, Tensor], masks: Masks
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """As `Loop.forward` with a record, without derivatives."""
        x, weights = self.reads(cell, x, tensors)
        given, places = self.listed(masks, x.size(1)), x.shape[:2]
        out, *last, _ = _results(self.key, x, state, weights, given, False, 0)
        kept = x.new_empty(*places, self.recorder.kept)
        self.call("record", x, state, weights, given, out=out, saved=kept, last=last)
        gates, H = [name for name, _ in self.step.gates], self.hidden_size
        pairs = zip(self.recorder.unpack(kept), [*[H] * len(gates), *self.state_sizes[1:]], strict=True)
        found = [part.expand(*places, size).contiguous() for part, size in pairs]
        states = dict(zip(cell.states, [out.clone(), *found[len(gates) :]], strict=True))
        return out, last, dict(zip(gates, found[: len(gates)], strict=True)) | states

    def reads(self, cell: Cell, x: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What the kernel reads of the input, and those parameters and buffers that take part. The cell is asked for
        its input map, where that is none of the kernel's."""
        dtype, places = x.dtype, x.shape[:2]
        x = x if self.maps_input else lend(cell, tensors).input_map(x)
        if x.shape != (*places, self.features) or x.dtype != dtype or not x.is_cpu:
            raise RuntimeError(
                f"the kernel wants {self.features} features of {dtype}, got {list(x.shape)} of {x.dtype}"
            )
        return x, [tensors[name] for name in self.names]

    def again(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor], norms):
        """The same run composed with autograd, for derivatives of higher order: the output and the last states."""
        idle = {name: x.new_zeros(t.shape) for name, t in self.cell.named_parameters() if name not in self.names}
        cell = lend(self.cell, idle | dict(zip(self.names, weights, strict=True)))
        if not self.maps_input:
            cell.input_map = lambda wx: wx
        out, last, _ = Loop(cell)(x, tuple(state), self.masks(masks), norms=norms)
        return [out, *last]

    def listed(self, masks: Masks, batch: int) -> list[Tensor]:
        """The masks that there are."""
        single = [getattr(masks, name) for name in self.single]
        for k, name in enumerate(self.single):
            if name.startswith("detach"):
                single[k] = single[k].expand(-1, batch, 1)  # (T, B, 1)
        return [*single, *(share for share in masks.share if share is not None)]

    def named(self, given: Sequence[Tensor]) -> dict:
        """The inverse of `listed`: by the names that `Masks` has, and the kernel."""
        queue = iter(given)
        found = {name: next(queue) for name in self.single}
        return found | {"share": [next(queue) if kind else None for kind in self.share]}

    def masks(self, given: Sequence[Tensor]) -> Masks:
        always = {f"detach_{way}": getattr(self.kinds, f"detach_{way}") == 1 for way in ("gates", "carousel")}
        found = always | self.named(given)
        return Masks(**found | {"share": tuple(found["share"]) if self.kinds.share else ()})

    def gradients(self, x, state, weights, masks, out, saved, arriving, d_x, d_state, d_weights, norms) -> None:
        """Fill in the gradients; what is empty is not wanted."""
        read = {name for name, _ in self.own}
        like = {n: t for n, t in zip(self.names, weights, strict=True) if n in read and d_weights[n].numel()}
        rows = x.new_empty(len(self.own) if like else 0, self.hidden_size)
        found = {f"d_{called}": d_weights.get(name) for name, called in self.maps.items()}
        found |= {"d_x" if self.maps_input else "d_wx": d_x, "d_own": rows, "d_state": d_state, "norms": norms}
        d_out, *d_last = (d.contiguous() for d in arriving)
        self.call("backward", x, state, weights, masks, out=out, saved=saved, d_out=d_out, d_last=d_last, **found)
        for name, d in self.own_gradients(rows, like).items() if like else ():
            d_weights[name] = d_weights[name] + d if name in self.maps else d  # `update` may read a map's bias, too

    def blocks(self, tensor: Tensor) -> Tensor:
        """One of the cell's further parameters as the trace counts it: blocks of H, or a single number."""
        return tensor.reshape(-1, self.hidden_size if tensor.numel() > 1 else 1)

    def own_gradients(self, rows: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of these parameters, from those of the blocks that take part, (len(own), H)."""
        gradients = {name: torch.zeros_like(t, memory_format=torch.contiguous_format) for name, t in like.items()}
        for (name, block), row in zip(self.own, rows, strict=True):
            if name in gradients:
                part = self.blocks(gradients[name])[block]
                part.copy_(row if part.numel() == row.numel() else row.sum())
        return gradients

    def call(self, which: str, x: Tensor, state, weights, masks, **results) -> None:
        """Call the C function of a pass, with results by the names of its signature."""
        tensors = dict(zip(self.names, weights, strict=True))
        x = x if self.maps_input and x.stride(-1) == 1 else x.contiguous()
        own = [self.blocks(tensors[name])[block].expand(self.hidden_size) for name, block in self.own]
        values = {called: tensors[name].contiguous() for name, called in self.maps.items() if name in tensors}
        values |= {"x" if self.maps_input else "wx": x, "own": torch.stack(own) if own else None}
        values |= {"I": x.size(2), "H": self.hidden_size, "P": self.state_sizes[0]}
        values["x_t"], values["x_b"], _ = x.stride()
        self.hand_over(which, x, state, masks, values | results)

    def hand_over(self, which: str, x: Tensor, state, masks, values: dict) -> None:
        """Call it with these and what every kernel takes."""
        values |= self.named([mask.contiguous() for mask in masks])
        values |= {"T": x.size(0), "B": x.size(1), "state": [s.contiguous() for s in state]}
        values |= {"threads": torch.get_num_threads(), "team": team, "openmp": int(openmp)}
        function, signature = self.passes[which]
        if function(ctypes.byref(signature.fill(values))):
            raise MemoryError("no memory for the kernel's buffers")


def _is_watched() -> bool:
    """Whether a compiler, a mode or a transform of torch's has to see the operators."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True
    return peek_interpreter_stack() is not None


class Kernels:
    """The kernels by key. No dictionary, of which a compiler keeps what it has seen at first: it may ask for one kernel
    after the other, each made as it comes to it."""

    def __getitem__(self, key: str) -> Fused:
        return getattr(self, key)

    def __setitem__(self, key: str, kernel: Fused) -> None:
        setattr(self, key, kernel)


KERNELS = Kernels()


def forward(
    key: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    save: bool,
    watch: int,
) -> list[Tensor]:
    """The output (T, B, H), the last states (B, H), and what the adjoint needs: nothing, unless it is to be saved.
    `watch` is for the backward pass."""
    out, *last, saved = results = _results(key, x, state, weights, masks, save, watch)
    KERNELS[key].call("forward", x, state, weights, masks, out=out, saved=saved, last=last)
    return results


def _results(key, x, state, weights, masks, save, watch) -> list[Tensor]:
    fused = KERNELS[key]
    steps, batch, _ = x.shape
    stored = steps * batch * fused.kernel.kept
    last = [x.new_empty(batch, size) for size in fused.state_sizes]
    return [x.new_empty(steps, batch, fused.state_sizes[0]), *last, x.new_empty(stored if save else 0)]


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
    watch: int,
) -> list[Tensor]:
    """The gradients of x, the states and the weights, those that are wanted, empty tensors for the others. `arriving`
    is the output's and the last states' gradients, empty where there is none. `watch`, if not 0, is the token of the
    `Norms` that are told of every state's gradient."""
    fused = KERNELS[key]
    d_x, *others = _gradients(key, arriving, x, state, weights, masks, out, saved, wanted, watch)
    d_state, d_weights = others[: len(state)], dict(zip(fused.names, others[len(state) :], strict=True))
    norms = x.new_zeros((*x.shape[:2], len(state)) if watch else 0, dtype=torch.float64)
    fused.gradients(x, state, weights, masks, out, saved, arriving, d_x, d_state, d_weights, norms)
    if watch in WATCHED:
        WATCHED[watch].add(norms)
    return [d_x, *d_state, *d_weights.values()]


def _gradients(key, arriving, x, state, weights, masks, out, saved, wanted, watch) -> list[Tensor]:
    inputs = (x, *state, *weights)
    return [t.new_empty(t.shape if want else 0) for t, want in zip(inputs, wanted, strict=True)]


def _one_by_one(operator, info, dims, *arguments):
    """Whatever is batched (inputs, weights, arriving gradients), each by itself."""

    def pick(argument, dim, k: int):
        if isinstance(argument, (list, tuple)):
            return [pick(part, d, k) for part, d in zip(argument, dim, strict=True)]
        return argument if dim is None else argument.select(dim, k)

    found = [operator(*(pick(a, d, k) for a, d in zip(arguments, dims, strict=True))) for k in range(info.batch_size)]
    stacked = [torch.stack(parts) for parts in zip(*found, strict=True)]
    return stacked, [0] * len(stacked)


def _gradients_batched(*arguments) -> list[Tensor]:
    """The same for `is_grads_batched` and `jacobian(vectorize=True)`, which batch in a way of their own."""
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    leaves, spec = pytree.tree_flatten(list(arguments))
    dims = [0 if isinstance(a, Tensor) and is_legacy_batchedtensor(a) else None for a in leaves]
    whole = [a if d is None else torch._remove_batch_dim(a, level, 0, 0) for a, d in zip(leaves, dims, strict=True)]
    size = next(a.size(0) for a, d in zip(whole, dims, strict=True) if d == 0)
    dims, whole = (pytree.tree_unflatten(given, spec) for given in (dims, whole))
    found, _ = _one_by_one(_operators.backward, SimpleNamespace(batch_size=size), dims, *whole)
    return [torch._add_batch_dim(t, 0, level) for t in found]


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, key: str, watch: int, counts: tuple[int, int], x: Tensor, *others: Tensor):
        masks_at = sum(counts)
        state, weights, masks = others[: counts[0]], others[counts[0] : masks_at], others[masks_at:]
        out, *last, _ = results = forward(key, x, state, weights, masks, True, watch)
        _remember(ctx, (key, x, state, weights, masks, True, watch), results)
        return out.clone(), *last

    @staticmethod
    def backward(ctx, *arriving: Tensor | None):
        found = _derivative(ctx, arriving, ctx.needs_input_grad[3 : 4 + sum(ctx.counts[:2])])
        return None, None, None, *found, *[None] * ctx.counts[2]


def _remember(ctx, inputs, output) -> None:
    ctx.key, x, state, weights, masks, _, watch = inputs
    out, *_, saved = output
    ctx.counts, ctx.watch, ctx.norms = (len(state), len(weights), len(masks)), watch, WATCHED.get(watch)
    ctx.save_for_backward(out, saved, x, *state, *weights, *masks)
    ctx.set_materialize_grads(False)


def _derivative(ctx, arriving: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients of x, the states and the weights, from those of the output and the last states."""
    out, saved, x, *rest = ctx.saved_tensors
    queue = iter(rest)
    state, weights, masks = ([next(queue) for _ in range(count)] for count in ctx.counts)
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # this is to be differentiated once more

        def again(x: Tensor, *others: Tensor) -> list[Tensor]:
            state, weights = others[: ctx.counts[0]], others[ctx.counts[0] :]
            return KERNELS[ctx.key].again(x, state, weights, masks, ctx.norms)

        return derivative(again, (x, *state, *weights), needs, arriving)
    batched = any(d is not None and is_legacy_batchedtensor(d) for d in arriving)
    call = _operators.backward if batched or _is_watched() else backward
    arriving = [x.new_empty(0) if d is None else d for d in arriving]
    needs = list(needs)
    elsewhere = len(KERNELS[ctx.key].elsewhere)
    needs[len(needs) - elsewhere :] = [False] * elsewhere
    gradients = call(ctx.key, arriving, x, state, weights, masks, out, saved, needs, ctx.watch)
    return [d if need else None for d, need in zip(gradients, needs, strict=True)]


def _derivative_of_operator(ctx, arriving):
    _, needs_x, needs_state, needs_weights, *_ = ctx.needs_input_grad
    found = _derivative(ctx, arriving[:-1], [needs_x, *needs_state, *needs_weights])
    states, _, masks = ctx.counts
    return None, found[0], found[1 : 1 + states], found[1 + states :], [None] * masks, None, None


# Not as `torch.library.custom_op`, which for each call takes as long as a short sequence.
_library = torch.library.Library("carousel", "FRAGMENT")
_library.define(
    "forward(str key, Tensor x, Tensor[] state, Tensor[] weights, Tensor[] masks, bool save, int watch) -> Tensor[]"
)
_library.define(
    "backward(str key, Tensor[] arriving, Tensor x, Tensor[] state, Tensor[] weights, Tensor[] masks, Tensor out, "
    "Tensor saved, bool[] wanted, int watch) -> Tensor[]"
)
_operators = SimpleNamespace(forward=torch.ops.carousel.forward.default, backward=torch.ops.carousel.backward.default)
for _name, _function, _fake in (("forward", forward, _results), ("backward", backward, _gradients)):
    _library.impl(_name, _function, "CPU")
    torch.library.register_fake(f"carousel::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"carousel::{_name}", partial(_one_by_one, getattr(_operators, _name)), lib=_library)
_library.impl("backward", _gradients_batched, "Batched")
torch.library.register_autograd("carousel::forward", _derivative_of_operator, setup_context=_remember, lib=_library)
