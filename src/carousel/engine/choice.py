"""Which engine a call takes, and why."""

import contextlib
from collections.abc import Generator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    is_functorch_wrapped_tensor,
    peek_interpreter_stack,
)
from torch.autograd import forward_ad

from ..cells.cell import State
from . import fused, short, torch_kernels
from . import record as recorded
from .autocast import autocasts, widened
from .eager import Kinds, Loop, Masks, Norms
from .registry import REGISTRY
from .torch_kernels import exporting

BACKENDS = ("auto", "eager", "fused", "torch", "triton")


class Choice(NamedTuple):
    """Which engine a call takes, "eager", "fused", "torch" or "triton", and why."""

    engine: str
    reason: str


listener: ContextVar[list[Choice] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def choices() -> Generator[list[Choice]]:
    """The choices that calls of `run` make, as a list that fills while the context is open; then none of them raises
    for being asked for an engine that cannot run it."""
    taken: list[Choice] = []
    token = listener.set(taken)
    try:
        yield taken
    finally:
        listener.reset(token)


def choose(
    loop: Loop,
    tensors: dict[str, Tensor],
    x: Tensor,
    state: State,
    masks: Masks,
    record: bool,
    backend: str,
    norms: Norms | None,
) -> tuple[Choice, str]:
    """The engine, and the kernel's key if it is "fused" or "triton"."""
    if backend == "eager":
        return Choice("eager", "backend='eager'"), ""
    by_speed = backend == "auto" and not torch.compiler.is_dynamo_compiling() and not _not_fused(x)
    single = by_speed and short.loops(x.size(0)) and "for a single step a kernel has nothing to gain"
    if single and not loop.function:
        return Choice("eager", single), ""
    if obstacle := _obstacle(loop, (x, *state, *tensors.values()), masks, record):
        return Choice("eager", obstacle), ""
    given = (loop, tensors, x, state, masks, record, norms)
    if backend == "torch":
        missing = _not_torchs(*given)
        return Choice("eager", missing) if missing else Choice("torch", "backend='torch'"), ""
    autocast = autocasts(x)
    if autocast and backend == "auto" and not _not_torchs(*given):
        return Choice("torch", f"torch's own kernel: {_AUTOCAST}"), ""
    theirs = by_speed and loop.function and not loop.cell.proj_size and not _not_torchs(*given)
    if theirs and _short(loop.function, x, x.size(0), x.size(1), (*tensors.values(), *state)):
        return Choice("torch", _SHORT), ""
    if single:
        return Choice("eager", single), ""
    typed = (widened(x), tuple(map(widened, state))) if autocast else (x, state)
    key, reason = _fused(loop, tensors, *typed, masks, backend)
    if key and record:
        key, reason = (key, recorded.REASON) if not (reason := _plan_record(key)) else ("", reason)
    if key:
        told = f"{_AUTOCAST}, and the kernel computes in float32: " if autocast and x.dtype != torch.float64 else ""
        return Choice("triton" if backend == "triton" else "fused", told + reason), key
    if backend == "auto" and not _not_torchs(*given):
        return Choice("torch", f"torch's own kernel: {reason}"), ""
    return Choice("eager", reason), ""


def _not_torchs(
    loop: Loop,
    tensors: dict[str, Tensor],
    x: Tensor,
    state: State,
    masks: Masks,
    record: bool,
    norms: Norms | None,
) -> str:
    """Why a run is nothing for torch's kernels, or ""."""
    if record:
        return "torch's kernels show no gates"
    if norms:
        return "torch's kernels tell no norms of gradients"
    if torch.compiler.is_dynamo_compiling() and not exporting():
        return "torch's kernels are for no part of a compiled graph"
    return torch_kernels.lacks(loop, tensors, x, state, masks)


def whole(
    loops: Sequence[tuple[str, Loop]],
    function: str,
    x: Tensor,
    steps: int,
    batch: int,
    tensors: Sequence[Tensor],
    slow: bool,
    backend: str,
) -> bool:
    """Whether torch's kernel is the engine of a whole stack of loops, which torch has, and which are asked for nothing
    else. If not, each is left to `run`.

    Args:
        loops: of all layers and directions, by name.
        function: torch's.
        x, steps, batch: the input, laid out in any way, and its sizes.
        tensors: all others that take part.
        slow: whether they are asked for what torch has no fast kernel for on a CPU: sequences of different lengths, or
            a projection.
        backend: as in `run`.
    """
    if backend not in ("auto", "torch") or forward_ad._current_level >= 0:
        return False
    if peek_interpreter_stack() is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return False
    if not steps or not batch:
        return False
    for _, loop in loops:
        if loop._forward_hooks or loop._forward_pre_hooks:
            return False
    if not _PLAIN.issuperset(map(type, (x, *tensors))) and not torch.compiler.is_exporting():
        return False
    if reason := _not_fused(x) or (autocasts(x) and _AUTOCAST):
        if torch_kernels.unfit(function, x):
            return False
        reason = f"torch's own kernel: {reason}"
    elif backend == "auto" and (slow or not _short(function, x, steps, batch, tensors)):
        return False
    if (taken := listener.get()) is not None:
        taken += [Choice("torch", (reason or _SHORT) if backend == "auto" else "backend='torch'")] * len(loops)
    return True


_PLAIN = {Tensor, torch.nn.Parameter}


_AUTOCAST = "autocast is on"
_SHORT = "torch's own kernel is the faster one for a sequence as short as this"


def _short(function: str, x: Tensor, steps: int, batch: int, tensors: Sequence[Tensor]) -> bool:
    """Whether torch's own kernel is better than ours for a run that both can do. Of the tensors, the first two are the
    weights."""
    training = torch.is_grad_enabled() and (x.requires_grad or any(t.requires_grad for t in tensors))
    return short.torchs(function, steps, batch, tensors[1].size(1), x.dtype is torch.float64, training)


def _not_fused(x: Tensor, backend: str = "auto") -> str:
    """Why a call is nothing for the fused kernel, as far as its input tells and what is switched on but autocast."""
    if reason := fused.unfit(x, backend):
        return reason
    return "an export has to consist of torch's own operations" if exporting() else ""


def _obstacle(loop: Loop, everything: tuple[Tensor, ...], masks: Masks, record: bool) -> str:
    """What of a call only the loop can do."""
    compiling = torch.compiler.is_dynamo_compiling() or torch.compiler.is_exporting()
    if record and (
        compiling
        or autocasts(everything[0])
        or torch._C._len_torch_dispatch_stack()
        or peek_interpreter_stack() is not None  # pyright: ignore[reportUnnecessaryComparison]
    ):
        return "every gate of every step is asked for, and that within a transform or a mode of torch's"
    if loop._forward_hooks or loop._forward_pre_hooks:
        return "a hook watches the loop"
    if any(m._forward_hooks or m._forward_pre_hooks for part in loop.cell.children() for m in part.modules()):
        return "a hook watches a part of the cell"
    if everything[0].numel() == 0:
        return "the batch is empty"
    dual = not compiling and forward_ad._current_level >= 0
    transformed = peek_interpreter_stack() is not None  # pyright: ignore[reportUnnecessaryComparison]
    plain = compiling or not (dual or transformed or not _PLAIN.issuperset(map(type, everything)))
    for tensor in everything:
        if tensor.layout is not torch.strided:
            return f"the kernel is for dense tensors, not for {tensor.layout}"
        if plain:
            continue
        kind = type(tensor)
        if kind is not Tensor and kind is not torch.nn.Parameter and _computes(kind):
            return f"a tensor is of a subclass with functions of its own, {kind.__name__}"
        if is_functorch_wrapped_tensor(tensor):
            return "a transform of torch.func (vmap, grad, jvp, ...) is active"
        if dual and forward_ad.unpack_dual(tensor).tangent is not None:
            return "forward-mode differentiation is active"
    if compiling and _differentiates():
        return "a transform of torch.func that differentiates (grad, jvp, ...) is active"
    return ""


def _fused(
    loop: Loop, tensors: dict[str, Tensor], x: Tensor, state: State, masks: Masks, backend: str
) -> tuple[str, str]:
    """The kernel's key, or "", and the reason."""
    device, dtype = x.device, x.dtype
    if reason := _not_fused(x, backend):
        return "", reason
    for tensor in (*state, *tensors.values()):
        if tensor.device != device:
            return "", f"the kernel takes tensors of one device, not {device} and {tensor.device}"
        if tensor.dtype != dtype and tensor.is_floating_point():
            return "", f"the kernel takes tensors of one type, not {dtype} and {tensor.dtype}"
    key, reason = _plan(loop, fused.target_of(x, backend), dtype, *masks.kinds)
    if key and (misfit := REGISTRY.kernels[key].misfit(x, state, tensors)):
        return "", misfit
    return key, reason


def _constant(function: Any) -> Any:
    """As `torch.compiler.assume_constant_result`, which imports torch._dynamo, a second's work."""
    function._dynamo_marked_constant = True
    return function


@_constant
def _differentiates() -> bool:
    """Whether a transform other than vmap, for which the kernel has a rule, is active where this is compiled."""
    stack = get_interpreter_stack() or ()
    return any(interpreter.key() != TransformType.Vmap for interpreter in stack)


@_constant
def _plan(loop: Loop, target: str, dtype: torch.dtype, *kinds: Any) -> tuple[str, str]:
    from .fused.plans import plan  # which takes long to import

    return plan(loop.cell, target, dtype, Kinds(*kinds))


def _plan_record(key: str) -> str:
    from .fused.plans import plan_record

    return plan_record(key)


def _computes(kind: type[Tensor]) -> bool:
    """Whether a subclass has a say, here and now, in what is computed with its tensors."""
    disabled = torch._C._disabled_torch_function_impl
    asked = torch._C._is_torch_function_enabled() and kind.__torch_function__ is not disabled
    plain = Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    return asked or kind.__torch_dispatch__ is not plain  # pyright: ignore[reportAttributeAccessIssue]
