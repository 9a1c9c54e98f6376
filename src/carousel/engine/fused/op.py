"""Kernels as operators of torch, `carousel::forward` and `carousel::backward`, which autograd and compilers know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor, peek_interpreter_stack
from torch.utils import _pytree as pytree

from ..eager import derivative
from ..registry import REGISTRY


def is_watched() -> bool:
    """Whether a compiler, a mode or a transform of torch's has to see the operators."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True
    return peek_interpreter_stack() is not None  # pyright: ignore[reportUnnecessaryComparison]


def run(
    key: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    save: bool,
    watch: int,
    copied: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`forward`, in the way in which autograd and whoever looks on learn of it: the output and the last states.

    The adjoint reads the output again; the caller gets a copy (under 1% of a step) to write into, as from torch, unless
    nobody will."""
    if is_watched():
        out, *last, _ = _operators.forward(key, x, list(state), weights, masks, save, watch)
        out = out.clone() if save and copied else out
    elif save:  # by autograd alone: to be dispatched, with what that does to lists, takes as long as ten steps
        out, *last = _Run.apply(key, watch, copied, (len(state), len(weights)), x, *state, *weights, *masks)
    else:
        out, *last, _ = forward(key, x, state, weights, masks, save, watch)
    return out, tuple(last)


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
    out, *last, saved = results = empty_results(key, x, state, weights, masks, save, watch)
    fused = REGISTRY.kernels[key]
    fused.call(fused.kernel, "forward", x, state, weights, masks, out=out, saved=saved, last=last)
    return results


def empty_results(key, x, state, weights, masks, save, watch) -> list[Tensor]:
    fused = REGISTRY.kernels[key]
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
    fused = REGISTRY.kernels[key]
    d_x, *others = _gradients(key, arriving, x, state, weights, masks, out, saved, wanted, watch)
    d_state, d_weights = others[: len(state)], dict(zip(fused.names, others[len(state) :], strict=True))
    squares = x.new_zeros((*x.shape[:2], len(state)) if watch else 0, dtype=torch.float64)
    d_out, *d_last = (d.contiguous() for d in arriving)
    given = {"out": out, "saved": saved, "d_out": d_out, "d_last": d_last, "d_state": d_state, "norms": squares}
    fused.gradients(x, state, weights, masks, d_x, d_weights, given)
    if watch in REGISTRY.watched:
        REGISTRY.watched[watch].add(squares)
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
    bare = torch._remove_batch_dim  # pyright: ignore[reportPrivateImportUsage]
    whole = [a if d is None else bare(a, level, 0, 0) for a, d in zip(leaves, dims, strict=True)]
    size = next(a.size(0) for a, d in zip(whole, dims, strict=True) if d == 0)
    dims, whole = (pytree.tree_unflatten(given, spec) for given in (dims, whole))
    found, _ = _one_by_one(_operators.backward, SimpleNamespace(batch_size=size), dims, *whole)
    batched = torch._add_batch_dim  # pyright: ignore[reportPrivateImportUsage]
    return [batched(t, 0, level) for t in found]


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, key: str, watch: int, copied: bool, counts: tuple[int, int], x: Tensor, *others: Tensor):
        masks_at = sum(counts)
        state, weights, masks = others[: counts[0]], others[counts[0] : masks_at], others[masks_at:]
        out, *last, _ = results = forward(key, x, state, weights, masks, True, watch)
        _remember(ctx, (key, x, state, weights, masks, True, watch), results)
        return out.clone() if copied else out, *last

    @staticmethod
    def backward(ctx, *arriving: Tensor | None):
        found = _derivative(ctx, arriving, ctx.needs_input_grad[4 : 5 + sum(ctx.counts[:2])])
        return None, None, None, None, *found, *[None] * ctx.counts[2]


def _remember(ctx, inputs, output) -> None:
    ctx.key, x, state, weights, masks, _, watch = inputs
    out, *_, saved = output
    ctx.counts, ctx.watch, ctx.norms = (len(state), len(weights), len(masks)), watch, REGISTRY.watched.get(watch)
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
            return REGISTRY.kernels[ctx.key].again(x, state, weights, masks, ctx.norms)

        return derivative(again, (x, *state, *weights), needs, arriving)
    batched = any(d is not None and is_legacy_batchedtensor(d) for d in arriving)
    call = _operators.backward if batched or is_watched() else backward
    arriving = [x.new_empty(0) if d is None else d for d in arriving]
    needs = list(needs)
    elsewhere = len(REGISTRY.kernels[ctx.key].elsewhere)
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
for _name, _function, _fake in (("forward", forward, empty_results), ("backward", backward, _gradients)):
    _library.impl(_name, _function, "CompositeExplicitAutograd")  # for all devices: the key tells the kernel's
    torch.library.register_fake(f"carousel::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"carousel::{_name}", partial(_one_by_one, getattr(_operators, _name)), lib=_library)
_library.impl("backward", _gradients_batched, "Batched")
torch.library.register_autograd("carousel::forward", _derivative_of_operator, setup_context=_remember, lib=_library)
