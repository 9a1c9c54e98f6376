"""How a cell is run over time. An engine knows the contract of a cell, and no particular cell."""

import contextlib
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap, functional_call

from ..cells.cell import Cell, State, lend
from .eager import Kinds, Loop, Masks, rows, step

__all__ = ["BACKENDS", "Choice", "Loop", "Masks", "choices", "rows", "run", "step"]

BACKENDS = ("auto", "eager", "fused")


class Choice(NamedTuple):
    """Which engine a call takes, "eager" or "fused", and why."""

    engine: str
    reason: str


_listener: ContextVar[list[Choice] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def choices():
    """The choices that calls of `run` make, as a list that fills while the context is open."""
    taken: list[Choice] = []
    token = _listener.set(taken)
    try:
        yield taken
    finally:
        _listener.reset(token)


def run(
    loop: Loop,
    tensors: dict[str, Tensor],
    x: Tensor,
    state: State,
    masks: Masks,
    record: bool = False,
    backend: str = "auto",
    norms: Tensor | None = None,
) -> tuple[Tensor, State, dict[str, Tensor]]:
    """Run a loop with the given parameters and buffers; the other arguments and the results are `Loop.forward`'s.

    Raises:
        RuntimeError: `backend` is "fused", and that cannot run this.
    """
    key, reason = ("", "backend='eager'") if backend == "eager" else _choose(loop, tensors, x, state, masks, record)
    if not torch.compiler.is_dynamo_compiling() and (taken := _listener.get()) is not None:
        taken.append(Choice("fused" if key else "eager", reason))
    if key:
        from .fused import KERNELS

        return (*KERNELS[key].run(x, state, tensors, masks, norms), {})
    if backend == "fused":
        raise RuntimeError(f"backend='fused' cannot run this: {reason}")
    arguments = (x, state, masks, record, norms)
    if torch.compiler.is_dynamo_compiling():  # it cannot follow the making of a view
        return functional_call(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()}, arguments)
    view = lend(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()})
    return view(*arguments)  # nothing shared is touched, so that threads do not meet


def _choose(loop, tensors, x: Tensor, state: State, masks: Masks, record: bool) -> tuple[str, str]:
    """The kernel's key, or "", and the reason."""
    everything = [x, *state, *tensors.values()]
    if record:
        return "", "every gate of every step is asked for"
    if loop._forward_hooks or loop._forward_pre_hooks:
        return "", "a hook watches the loop"
    if any(t.device.type != "cpu" for t in everything):
        return "", f"the kernel is for the CPU, not for {x.device.type}"
    if x.dtype not in (torch.float32, torch.float64) or any(
        t.dtype != x.dtype for t in everything if t.is_floating_point()
    ):
        return "", f"the kernel is for float32 and float64 throughout, not for {x.dtype}"
    if torch.is_autocast_enabled("cpu"):
        return "", "autocast is on"
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "", "an export has to consist of torch's own operations"
    if x.numel() == 0 and x.size(-1) > 0:
        return "", "the batch is empty"
    if not torch.compiler.is_dynamo_compiling():
        if any(debug_unwrap(t) is not t for t in everything):
            return "", "a transform of torch.func (vmap, grad, jvp, ...) is active"
        if any(forward_ad.unpack_dual(t).tangent is not None for t in everything):
            return "", "forward-mode differentiation is active"
        if any(type(t) not in (Tensor, torch.nn.Parameter) for t in everything):
            return "", "a tensor is of a subclass"
    cell = type(loop.cell)
    if any(getattr(cell, name) is not getattr(Cell, name) for name in ("forward", "step", "project")):
        return "", f"{cell.__name__} has a step of its own, which only the loop can run"
    return _plan(loop, x.dtype, *masks.kinds)


@torch.compiler.assume_constant_result
def _plan(loop: Loop, dtype: torch.dtype, *kinds) -> tuple[str, str]:
    from .fused import plan

    return plan(loop.cell, Kinds(*kinds), dtype)
