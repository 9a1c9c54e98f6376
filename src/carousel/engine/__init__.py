"""How a cell is run over time. An engine knows the contract of a cell, and no particular cell."""

import contextlib
import sys
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.overrides import has_torch_function

from ..cells.cell import Cell, State, lend
from ..cells.module import view_of
from .eager import Kinds, Loop, Masks, Norms, rows, step

__all__ = ["BACKENDS", "Choice", "Loop", "Masks", "Norms", "choices", "explain", "rows", "run", "step", "watched"]

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
    norms: Norms | None = None,
) -> tuple[Tensor, State, dict[str, Tensor]]:
    """Run a loop with the given parameters and buffers; the other arguments and the results are `Loop.forward`'s.

    Raises:
        RuntimeError: `backend` is "fused", and that cannot run this; or a state is not of x's type.
    """
    compiling, given = torch.compiler.is_dynamo_compiling(), (x, *state, *tensors.values())
    if not compiling and has_torch_function(given) and backend != "eager" and not record:
        arguments = (x, state, tensors, loop, masks, backend, norms)
        if (results := _hand_over(given, arguments)) is not NotImplemented:
            return results[0], tuple(results[1:]), {}
    if type(loop.cell).initial_state is Cell.initial_state:
        _check_types(x, state)
    key, reason = ("", "backend='eager'") if backend == "eager" else _choose(loop, tensors, x, state, masks, record)
    if not compiling and (taken := _listener.get()) is not None:
        taken.append(Choice("fused" if key else "eager", reason))
    if key:
        from .fused import KERNELS

        return (*KERNELS[key].run(loop.cell, x, state, tensors, masks, norms), {})
    if backend == "fused":
        raise RuntimeError(f"backend='fused' cannot run this: {reason}")
    arguments = (x, state, masks, record, norms)
    if compiling:  # it cannot follow the making of a view
        return functional_call(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()}, arguments)
    view = lend(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()})
    return view(*arguments)  # nothing shared is touched, so that threads do not meet


@torch.compiler.disable(reason="gradients.watch looks at a layer outside of compiled graphs")
def watched(norms: list[Norms], loop: Loop, tensors: dict[str, Tensor], x: Tensor, *arguments):
    """`run`, with another `Norms` at the end of the list."""
    norms.append(Norms(loop, x.size(0), x.size(1)))
    return run(loop, tensors, x, *arguments, norms=norms[-1])


def explain(layer: torch.nn.Module, *args, **kwargs) -> list[Choice]:
    """Which engine a call takes, and why: for each layer and direction, ("eager" or "fused", the reason).

    Args:
        layer: the layer, which is run once, without gradients.
        args, kwargs: of the call, as in `Recurrent.forward`.
    """
    layer = view_of(getattr(layer, "_orig_mod", layer))  # what was compiled as it was written
    backend = layer.backend
    layer._norms = None
    layer.backend = "auto" if backend == "fused" else backend  # to hear the reason, where "fused" would raise it
    with torch.no_grad(), torch.random.fork_rng(devices=[]), choices() as taken:
        layer(*args, **kwargs)
    return taken


def _hand_over(given: tuple[Tensor, ...], arguments: tuple):
    """A whole run, to the subclasses of Tensor with functions of their own that are among what is given, as torch.nn's
    layers hand over theirs; NotImplemented if none of them takes it."""
    kinds = {type(tensor) for tensor in given} - {Tensor}
    if all(kind.__torch_dispatch__ is Tensor.__torch_dispatch__ for kind in kinds):
        own = [kind for kind in kinds if kind.__torch_function__ is not torch._C._disabled_torch_function_impl]
        for kind in sorted(own, key=lambda kind: -len(kind.__mro__)):  # subclasses before what they extend
            results = kind.__torch_function__(recurrence, tuple(own), arguments, {})
            if results is not NotImplemented:
                return results
    return NotImplemented


def recurrence(x: Tensor, state: State, tensors: dict[str, Tensor], loop: Loop, masks: Masks, backend: str, norms):
    """`run` as such subclasses are asked for it: the output and the last states in one list."""
    output, last, _ = run(loop, tensors, x, state, masks, backend=backend, norms=norms)
    return [output, *last]


def _computes(kind: type[Tensor]) -> bool:
    """Whether a subclass has a say, here and now, in what is computed with its tensors."""
    disabled = torch._C._disabled_torch_function_impl
    asked = torch._C._is_torch_function_enabled() and kind.__torch_function__ is not disabled
    return asked or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def _check_types(x: Tensor, state: State) -> None:
    """What torch.nn's layers refuse; by itself the loop would promote some of it. Autocast mixes floating types."""
    for k, s in enumerate(state):
        if s.dtype != x.dtype and not (s.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise RuntimeError(f"input and hx[{k}] must have the same dtype, but got {x.dtype} and {s.dtype}")


def _choose(loop, tensors, x: Tensor, state: State, masks: Masks, record: bool) -> tuple[str, str]:
    """The kernel's key, or "", and the reason."""
    everything, compiling = (x, *state, *tensors.values()), torch.compiler.is_dynamo_compiling()
    if record:
        return "", "every gate of every step is asked for"
    if sys.platform == "win32":
        return "", "the kernel is for Linux and macOS"
    if isinstance(masks.detach_gates, Tensor) or isinstance(masks.detach_carousel, Tensor):
        return "", "what the gradient is detached from changes from step to step"
    if loop._forward_hooks or loop._forward_pre_hooks:
        return "", "a hook watches the loop"
    if any(m._forward_hooks or m._forward_pre_hooks for part in loop.cell.children() for m in part.modules()):
        return "", "a hook watches a part of the cell"
    if x.dtype not in (torch.float32, torch.float64):
        return "", f"the kernel is for float32 and float64, not for {x.dtype}"
    dual = forward_ad._current_level >= 0
    for tensor in everything:
        if not tensor.is_cpu:
            return "", f"the kernel is for the CPU, not for {tensor.device.type}"
        if tensor.layout is not torch.strided:
            return "", f"the kernel is for dense tensors, not for {tensor.layout}"
        if tensor.dtype != x.dtype and tensor.is_floating_point():
            return "", f"the kernel takes tensors of one type, not {x.dtype} and {tensor.dtype}"
        if compiling:
            continue
        kind = type(tensor)
        if kind is not Tensor and kind is not torch.nn.Parameter and _computes(kind):
            return "", f"a tensor is of a subclass with functions of its own, {kind.__name__}"
        if is_functorch_wrapped_tensor(tensor):
            return "", "a transform of torch.func (vmap, grad, jvp, ...) is active"
        if dual and forward_ad.unpack_dual(tensor).tangent is not None:
            return "", "forward-mode differentiation is active"
    if compiling and _differentiates():
        return "", "a transform of torch.func that differentiates (grad, jvp, ...) is active"
    if torch.is_autocast_enabled("cpu"):
        return "", "autocast is on"
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "", "an export has to consist of torch's own operations"
    if x.numel() == 0:
        return "", "the batch is empty"
    key, reason = _plan(loop, x.dtype, *masks.kinds)
    if key:
        from .fused import KERNELS

        if misfit := KERNELS[key].misfit(x, state, tensors):
            return "", misfit
    return key, reason


@torch.compiler.assume_constant_result
def _differentiates() -> bool:
    """Whether a transform other than vmap, for which the kernel has a rule, is active where this is compiled."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return any(interpreter.key() != torch._C._functorch.TransformType.Vmap for interpreter in stack)


@torch.compiler.assume_constant_result
def _plan(loop: Loop, dtype: torch.dtype, *kinds) -> tuple[str, str]:
    from .fused import plan

    return plan(loop.cell, Kinds(*kinds), dtype)
