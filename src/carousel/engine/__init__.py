"""How a cell is run over time. An engine knows the contract of a cell, and no particular cell.

.. include:: README.md
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.overrides import has_torch_function

from ..cells.cell import Cell, State, with_tensors
from ..cells.module import view_of
from . import record as recorded
from . import torch_kernels
from .autocast import autocasts, suspended, widened
from .choice import BACKENDS, Choice, choices, choose, listener, whole
from .eager import Loop, Masks, Norms, rows, step
from .registry import REGISTRY
from .torch_kernels import Stack, exporting, stack

__all__ = [
    "BACKENDS",
    "Choice",
    "Loop",
    "Masks",
    "Norms",
    "Stack",
    "autocasts",
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
        RuntimeError: `backend` is neither "auto" nor "eager", and cannot run this; or a state is not of x's type.
    """
    compiling, given = torch.compiler.is_dynamo_compiling(), (x, *state, *tensors.values())
    if not compiling and has_torch_function(given) and backend != "eager" and not record:
        arguments = (x, state, tensors, loop, masks, backend, norms)
        if (results := _hand_over(given, arguments)) is not NotImplemented:
            return results[0], tuple(results[1:]), {}
    if type(loop.cell).initial_state is Cell.initial_state:
        _check_types(x, state)
    choice, key = choose(loop, tensors, x, state, masks, record, backend, norms)
    taken = None if compiling else listener.get()
    if taken is not None:
        taken.append(choice)
    if key and record:
        return recorded.run(REGISTRY.kernels[key], loop, tensors, x, state, masks)
    if key:
        return (*_run_kernel(key, loop, tensors, x, state, masks, norms), {})
    if choice.engine == "torch":
        return (*torch_kernels.run(loop, tensors, x, state), {})
    if backend in ("fused", "torch", "triton") and taken is None:  # who asks for the reason is told it
        raise RuntimeError(f"backend={backend!r} cannot run this: {choice.reason}")
    arguments = (x, state, masks, record, norms)
    if compiling:  # it cannot follow the making of a view
        return functional_call(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()}, arguments)
    view = with_tensors(loop, {f"cell.{name}": tensor for name, tensor in tensors.items()})
    return view(*arguments)  # nothing shared is touched, so that threads do not meet


def _run_kernel(
    key: str, loop: Loop, tensors: dict[str, Tensor], x: Tensor, state: State, masks: Masks, norms: Norms | None
) -> tuple[Tensor, State]:
    """In float32 where autocast is on, from and to the type of x."""
    kernel = REGISTRY.kernels[key]
    if not autocasts(x):
        return kernel.run(loop.cell, x, state, tensors, masks, norms)
    masks = masks._replace(recurrent=widened(masks.recurrent), update_mask=tuple(map(widened, masks.update_mask)))
    with suspended(x):
        out, last = kernel.run(loop.cell, widened(x), tuple(map(widened, state)), tensors, masks, norms)
    return out.to(x.dtype), tuple(s.to(x.dtype) for s in last)


@torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]  # gradients.watch looks at a layer outside of compiled graphs
def watched(found: list[Norms], loop: Loop, tensors: dict[str, Tensor], x: Tensor, *arguments: Any) -> Any:
    """`run`, with another `Norms` at the end of the list."""
    found.append(Norms(loop, x.size(0), x.size(1)))
    return run(loop, tensors, x, *arguments, norms=found[-1])


def explain(layer: torch.nn.Module, *args: Any, **kwargs: Any) -> list[Choice]:
    """Which engine a call takes, and why: for each layer and direction, its name, as in `Choice`, and the reason.

    Args:
        layer: the layer, which is run once, with gradients or without as they are enabled where this is called.
        args, kwargs: of the call, as in `Recurrent.forward`.
    """
    view: Any = view_of(getattr(layer, "_orig_mod", layer))  # what was compiled as it was written
    view._norms = None
    with torch.random.fork_rng(devices=[]), choices() as taken:
        view(*args, **kwargs)
    return taken


def _hand_over(given: tuple[Tensor, ...], arguments: tuple[Any, ...]) -> Any:
    """A whole run, to the subclasses of Tensor with functions of their own that are among what is given, as torch.nn's
    layers hand over theirs; NotImplemented if none of them takes it."""
    kinds = {type(tensor) for tensor in given} - {Tensor}
    plain = Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    if all(kind.__torch_dispatch__ is plain for kind in kinds):  # pyright: ignore[reportAttributeAccessIssue]
        asked = [kind for kind in kinds if kind.__torch_function__ is not torch._C._disabled_torch_function_impl]
        for kind in sorted(asked, key=lambda kind: -len(kind.__mro__)):  # subclasses before what they extend
            results = kind.__torch_function__(recurrence, tuple(asked), arguments, {})
            if results is not NotImplemented:
                return results
    return NotImplemented


def recurrence(
    x: Tensor, state: State, tensors: dict[str, Tensor], loop: Loop, masks: Masks, backend: str, norms: Norms | None
):
    """`run` as such subclasses are asked for it: the output and the last states in one list."""
    output, last, _ = run(loop, tensors, x, state, masks, backend=backend, norms=norms)
    return [output, *last]


def _check_types(x: Tensor, state: State) -> None:
    """What torch.nn's layers refuse; by itself the loop would promote some of it. Autocast mixes floating types."""
    for k, s in enumerate(state):
        if s.dtype != x.dtype and not (s.is_floating_point() and autocasts(x)):
            raise RuntimeError(f"input and hx[{k}] must have the same dtype, but got {x.dtype} and {s.dtype}")
