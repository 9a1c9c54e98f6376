"""How a cell is run over time. An engine knows the contract of a cell, and no particular cell."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.overrides import has_torch_function

from ..cells.cell import Cell, State, lend
from ..cells.module import view_of
from . import record as recorded
from . import short, torch_kernels
from .eager import Kinds, Loop, Masks, Norms, rows, step
from .torch_kernels import Stack, exporting, stack

__all__ = [
    "BACKENDS",
    "Choice",
    "Loop",
    "Masks",
    "Norms",
    "Stack",
    "choices",
    "explain",
    "exporting",
    "rows",
    "run",
    "stack",
    "step",
    "watched",
    "whole",
]

BACKENDS = ("auto", "eager", "fused", "torch")


class Choice(NamedTuple):
    """Which engine a call takes, "eager", "fused" or "torch", and why."""

    engine: str
    reason: str


_listener: ContextVar[list[Choice] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def choices():
    """The choices that calls of `run` make, as a list that fills while the context is open; then none of them raises
    for being asked for an engine that cannot run it."""
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
        RuntimeError: `backend` is "fused" or "torch", and that cannot run this; or a state is not of x's type.
    """
    compiling, given = torch.compiler.is_dynamo_compiling(), (x, *state, *tensors.values())
    if not compiling and has_torch_function(given) and backend != "eager" and not record:
        arguments = (x, state, tensors, loop, masks, backend, norms)
        if (results := _hand_over(given, arguments)) is not NotImplemented:
            return results[0], tuple(results[1:]), {}
    if type(loop.cell).initial_state is Cell.initial_state:
        _check_types(x, state)
    choice, key = _choose(loop, tensors, x, state, masks, record, backend, norms)
    taken = None if compiling else _listener.get()
    if taken is not None:
        taken.append(choice)
    if key and record:
        return recorded.run(_kernel(key), loop, tensors, x, state, masks)
    if key:
        return (*_run_kernel(key, loop, tensors, x, state, masks, norms), {})
    if choice.engine == "torch":
        return (*torch_kernels.run(loop, tensors, x, state), {})
    if backend in ("fused", "torch") and taken is None:  # who asks for the reason is told it
        raise RuntimeError(f"backend={backend!r} cannot run this: {choice.reason}")
    arguments = (x, state, masks, record, norms)
    if compiling:  # it cannot follow the making of a view
        return functional_call(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()}, arguments)
    view = lend(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()})
    return view(*arguments)  # nothing shared is touched, so that threads do not meet


def _run_kernel(
    key: str, loop: Loop, tensors: dict[str, Tensor], x: Tensor, state: State, masks: Masks, norms: Norms | None
) -> tuple[Tensor, State]:
    """In float32 where autocast is on, from and to the type of x."""
    if not torch.is_autocast_enabled("cpu"):
        return _kernel(key).run(loop.cell, x, state, tensors, masks, norms)
    wide = masks._replace(recurrent=_wide(masks.recurrent), share=tuple(map(_wide, masks.share)))
    with torch.autocast("cpu", enabled=False):
        out, last = _kernel(key).run(loop.cell, _wide(x), tuple(map(_wide, state)), tensors, wide, norms)
    return out.to(x.dtype), tuple(s.to(x.dtype) for s in last)


def _wide(t: Tensor | None) -> Tensor | None:
    return t.float() if t is not None and t.dtype in (torch.bfloat16, torch.float16) else t


@torch._disable_dynamo  # gradients.watch looks at a layer outside of compiled graphs
def watched(norms: list[Norms], loop: Loop, tensors: dict[str, Tensor], x: Tensor, *arguments):
    """`run`, with another `Norms` at the end of the list."""
    norms.append(Norms(loop, x.size(0), x.size(1)))
    return run(loop, tensors, x, *arguments, norms=norms[-1])


def explain(layer: torch.nn.Module, *args, **kwargs) -> list[Choice]:
    """Which engine a call takes, and why: for each layer and direction, ("eager", "fused" or "torch", the reason).

    Args:
        layer: the layer, which is run once, with gradients or without as they are enabled where this is called.
        args, kwargs: of the call, as in `Recurrent.forward`.
    """
    layer = view_of(getattr(layer, "_orig_mod", layer))  # what was compiled as it was written
    layer._norms = None
    with torch.random.fork_rng(devices=[]), choices() as taken:
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


def _choose(
    loop, tensors, x: Tensor, state: State, masks: Masks, record: bool, backend: str, norms
) -> tuple[Choice, str]:
    """The engine, and the kernel's key if it is "fused"."""
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
    autocast = x.is_cpu and torch.is_autocast_enabled("cpu")
    if autocast and backend == "auto" and not _not_torchs(*given):
        return Choice("torch", f"torch's own kernel: {_AUTOCAST}"), ""
    theirs = by_speed and loop.function and not loop.cell.proj_size and not _not_torchs(*given)
    if theirs and _short(loop.function, x, x.size(0), x.size(1), (*tensors.values(), *state)):
        return Choice("torch", _SHORT), ""
    if single:
        return Choice("eager", single), ""
    key, reason = _fused(loop, tensors, x, state, masks)
    if key and record:
        key, reason = (key, recorded.REASON) if not (reason := _plan_record(key)) else ("", reason)
    if key:
        told = f"{_AUTOCAST}, and the kernel computes in float32: " if autocast and x.dtype != torch.float64 else ""
        return Choice("fused", told + reason), key
    if backend == "auto" and not _not_torchs(*given):
        return Choice("torch", f"torch's own kernel: {reason}"), ""
    return Choice("eager", reason), ""


def _not_torchs(
    loop: Loop, tensors: dict[str, Tensor], x: Tensor, state: State, masks: Masks, record: bool, norms
) -> str:
    """Why a run is nothing for torch's kernels, or ""."""
    if record:
        return "torch's kernels show no gates"
    if norms:
        return "torch's kernels tell no norms of gradients"
    if torch.compiler.is_dynamo_compiling() and not exporting():
        return "torch's kernels are for no part of a compiled graph"
    return torch_kernels.lacks(loop, tensors, x, state, masks)


def whole(loops, function: str, x: Tensor, steps: int, batch: int, tensors, slow: bool, backend: str) -> bool:
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
    if backend not in ("auto", "torch") or forward_ad._current_level >= 0 or peek_interpreter_stack() is not None:
        return False
    if not steps or not batch:
        return False
    for _, loop in loops:
        if loop._forward_hooks or loop._forward_pre_hooks:
            return False
    if not _PLAIN.issuperset(map(type, (x, *tensors))) and not torch.compiler.is_exporting():
        return False
    if reason := _not_fused(x) or (torch.is_autocast_enabled("cpu") and _AUTOCAST):
        if torch_kernels.unfit(function, x):
            return False
        reason = f"torch's own kernel: {reason}"
    elif backend == "auto" and (slow or not _short(function, x, steps, batch, tensors)):
        return False
    if (taken := _listener.get()) is not None:
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


def _not_fused(x: Tensor) -> str:
    """Why a call is nothing for the fused kernel, as far as its input tells and what is switched on but autocast."""
    if sys.platform == "win32":
        return "the kernel is for Linux and macOS"
    if x.dtype not in (torch.float32, torch.float64):
        return f"the kernel is for float32 and float64, not for {x.dtype}"
    if not x.is_cpu:
        return f"the kernel is for the CPU, not for {x.device.type}"
    if exporting():
        return "an export has to consist of torch's own operations"
    return ""


def _obstacle(loop: Loop, everything: tuple[Tensor, ...], masks: Masks, record: bool) -> str:
    """What of a call only the loop can do."""
    compiling = torch.compiler.is_dynamo_compiling() or torch.compiler.is_exporting()
    if record and (
        compiling
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
        or peek_interpreter_stack() is not None
    ):
        return "every gate of every step is asked for, and that within a transform or a mode of torch's"
    if loop._forward_hooks or loop._forward_pre_hooks:
        return "a hook watches the loop"
    if any(m._forward_hooks or m._forward_pre_hooks for part in loop.cell.children() for m in part.modules()):
        return "a hook watches a part of the cell"
    if everything[0].numel() == 0:
        return "the batch is empty"
    dual = not compiling and forward_ad._current_level >= 0
    plain = compiling or not (
        dual or peek_interpreter_stack() is not None or not _PLAIN.issuperset(map(type, everything))
    )
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


def _fused(loop: Loop, tensors: dict[str, Tensor], x: Tensor, state: State, masks: Masks) -> tuple[str, str]:
    """The kernel's key, or "", and the reason."""
    if torch.is_autocast_enabled("cpu"):
        x, state = _wide(x), tuple(map(_wide, state))
    if reason := _not_fused(x):
        return "", reason
    for tensor in (*state, *tensors.values()):
        if not tensor.is_cpu:
            return "", f"the kernel is for the CPU, not for {tensor.device.type}"
        if tensor.dtype != x.dtype and tensor.is_floating_point():
            return "", f"the kernel takes tensors of one type, not {x.dtype} and {tensor.dtype}"
    key, reason = _plan(loop, x.dtype, *masks.kinds)
    if key and (misfit := _kernel(key).misfit(x, state, tensors)):
        return "", misfit
    return key, reason


def _constant(function: Callable) -> Callable:
    """As `torch.compiler.assume_constant_result`, which imports torch._dynamo, a second's work."""
    function._dynamo_marked_constant = True
    return function


@_constant
def _differentiates() -> bool:
    """Whether a transform other than vmap, for which the kernel has a rule, is active where this is compiled."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return any(interpreter.key() != torch._C._functorch.TransformType.Vmap for interpreter in stack)


@_constant
def _plan(loop: Loop, dtype: torch.dtype, *kinds) -> tuple[str, str]:
    from .fused import plan

    return plan(loop.cell, Kinds(*kinds), dtype)


def _plan_record(key: str) -> str:
    from .fused import plan_record

    return plan_record(key)


def _kernel(key: str):
    """Of a plan."""
    from .fused import KERNELS

    return KERNELS[key]
