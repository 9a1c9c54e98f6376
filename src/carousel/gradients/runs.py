"""What the measures look at: each layer and direction of a recurrent layer, in one run of the model around it."""

import copy
import random
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from ..cells import Cell
from ..cells.cell import State, with_tensors
from ..engine import Loop, Masks, rows, step
from ..layer import Recurrent
from ..layers import from_torch


@dataclass(frozen=True)
class Run:
    """One layer in one direction: its cell, and what that ran over, in the order of its steps."""

    cell: Cell
    rows: tuple[Tensor, ...]
    """What each step reads, (B, G*H)."""
    state: State
    """Before the first step: (B, H) for each of the cell's states."""
    masks: Masks

    def real(self, t: int) -> Tensor:
        """(B, 1) bool: whether step t is none of padding."""
        here = torch.ones_like(self.state[0][:, :1], dtype=torch.bool)
        return here if self.masks.real is None else self.masks.real[t] > 0

    def step(self, t: int, state: State, row: Tensor | None = None) -> tuple[State, State, dict[str, Tensor]]:
        """What the cell makes of a state in step t, the state after it, and the gates. The first two differ where a
        mask holds a state back, in padding or by zoneout. `row` stands in for what the step reads."""
        begun = self.masks.before(state, t)
        new, gates = step(self.cell, self.rows[t] if row is None else row, begun, self.masks, t)
        return new, self.masks.after(begun, new, t), gates


@dataclass(frozen=True)
class Call:
    """One call of a layer, as it was when it happened: copies of all that it was given, in float32 or float64."""

    layer: Recurrent
    """A copy with the weights in force, ours also where the layer is one of torch.nn."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor]
    """What the model got from the layer; if it asked for gradients, nodes of the model's graph."""
    draws: list[Tensor]
    """The random numbers' state at its beginning."""
    recorded: bool
    """Whether the model had gradients switched on."""

    def again(self, attached: bool = False) -> tuple[list[Tensor], list[Run], list[tuple[Tensor, ...]]]:
        """The same once more, in the plain loop. If `attached`, nothing is detached that is in training.

        Returns:
            The layer's results; a `Run` for each layer and direction, in the order of torch's states; and of each its
            outputs and last states, at which the graph is cut: results and `Run.rows` depend on these alone.
        """
        runs: list[Run] = []
        cuts: list[tuple[Tensor, ...]] = []

        def begin(loop: Loop, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            x, state, masks, *others = arguments
            masks = masks._replace(detach_gates=False, detach_carousel=False) if attached else masks
            runs.append(Run(loop.cell, rows(loop.cell, x), state, masks))
            return x.detach(), state, masks, *others

        def end(loop: Loop, arguments: tuple[Any, ...], result: tuple[Any, ...]) -> tuple[Any, ...]:
            output, last, kept = result
            cuts.append(tuple(t.detach().requires_grad_(torch.is_grad_enabled()) for t in (output, *last)))
            return cuts[-1][0], cuts[-1][1:], kept

        for _, loop in self.layer._loops:
            loop.register_forward_pre_hook(begin)
            loop.register_forward_hook(end)
        torch.set_rng_state(self.draws[0])
        if self.draws[1:]:
            torch.cuda.set_rng_state_all(self.draws[1:])
        return leaves(self.layer.forward(*self.args, **self.kwargs)), runs, cuts


@contextmanager
def observe(layer: nn.Module, model: Callable[[], Any], gradients: bool = False) -> Generator[tuple[Any, Call]]:
    """Run a model that contains `layer`, once: what it returns, and the layer's call. If `gradients`, the layer's
    results require them, whether it is frozen or not.

    What was compiled runs as it was written. All within the context runs outside of autocast; when it is left, random
    numbers and the buffers of every module that ran are as before.

    Raises:
        TypeError: the layer is neither ours nor one that `from_torch` takes.
        ValueError: the model ran it not exactly once, or under a transform of `torch.func`.
    """
    layer = getattr(layer, "_orig_mod", layer)  # inside what torch.compile returns
    if not parametrize.is_parametrized(layer):  # reading such a weight may change it
        _copy(layer, torch.detach)
    calls: list[Call] = []
    draws: list[Tensor] = []
    done = False

    with ExitStack() as stack:
        stack.enter_context(_left_as_found())
        cache = stack.enter_context(ExitStack())

        def before(*_) -> None:
            if done:
                return
            draws[:] = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if _devices() else ())]
            if parametrize.is_parametrized(layer):  # each weight is made once, for the layer and for us
                cache.enter_context(parametrize.cached())

        def after(_, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
            recorded = torch.is_grad_enabled()
            with torch.inference_mode(False), torch.enable_grad():
                if gradients:
                    result = _map(result, lambda t: t if t.requires_grad else t.detach().clone().requires_grad_())
                if not done:  # a checkpoint runs the layer once more, in the backward pass
                    args, kwargs = _map((args, kwargs), _keep)
                    calls.append(Call(_copy(layer, _keep), args, kwargs, leaves(result), list(draws), recorded))
                    cache.close()
                return _map(result, torch.clone) if gradients else None  # what the model does in place is its own

        stack.callback(layer.register_forward_pre_hook(before).remove)
        stack.callback(layer.register_forward_hook(after, with_kwargs=True, prepend=True).remove)
        with ExitStack() as eager:
            if "torch._dynamo" in sys.modules:  # else nothing can have been compiled
                eager.enter_context(torch.compiler.set_stance("force_eager"))
                eager.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "Using `torch.compile.* when there are global hooks")
            value = model()
        done = True
        if len(calls) != 1:
            raise ValueError(f"the model must run the layer exactly once, not {len(calls)} times")
        for device in {"cpu", calls[0].layer.all_weights[0][0].device.type}:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        yield value, calls[0]


@contextmanager
def runs(layer: nn.Module, model: Callable[[], Any]) -> Generator[list[Run]]:
    """Run a model that contains `layer`: a `Run` for each layer and direction, in the order of torch's states. Within
    the context there are no gradients, otherwise it is that of `observe`.

    Raises:
        TypeError, ValueError: as `observe`.
    """
    with observe(layer, model) as (_, call), torch.no_grad():
        yield call.again()[1]


def leaves(nested: Any) -> list[Tensor]:
    """The tensors of a layer's result: (output, state), of whatever form."""
    found: list[Tensor] = []
    _map(nested, found.append)
    return found


def _map(nested: Any, change: Callable[[Tensor], Any]) -> Any:
    """Change every floating-point tensor in a layer's arguments or result."""
    if isinstance(nested, Tensor):
        return change(nested) if nested.is_floating_point() else nested
    if isinstance(nested, PackedSequence):
        return nested._replace(data=_map(nested.data, change))
    if isinstance(nested, dict):
        return {key: _map(part, change) for key, part in nested.items()}
    if isinstance(nested, tuple | list):
        parts = [_map(part, change) for part in nested]
        return getattr(type(nested), "_make", type(nested))(parts)  # of a named tuple
    return nested


def _keep(tensor: Tensor) -> Tensor:
    """A copy apart from any graph, in float32 at least."""
    if debug_unwrap(tensor) is not tensor:
        raise ValueError("the layer cannot be measured under a transform of torch.func (vmap, grad, ...)")
    kept = tensor.detach().clone()
    return kept.to(torch.promote_types(kept.dtype, torch.float32)) if kept.is_floating_point() else kept


def _copy(layer: nn.Module, keep: Callable[[Tensor], Tensor]) -> Recurrent:
    """A layer of ours with what `keep` makes of the weights that are in force now, to run in the plain loop."""
    if not isinstance(layer, nn.Module):
        raise TypeError(f"expected a recurrent layer, got {type(layer).__name__}")
    named = (*layer.named_parameters(remove_duplicate=False), *layer.named_buffers(remove_duplicate=False))
    view = with_tensors(layer, {name: keep(tensor) for name, tensor in named})
    if parametrize.is_parametrized(layer):
        view.__class__ = type(layer).__mro__[1]
        del view._modules["parametrizations"]
        names = layer.get_submodule("parametrizations")._modules
        vars(view)["_parameters"].update({name: keep(getattr(layer, name)) for name in names})
    # The older weight_norm, spectral_norm and pruning keep the weight in force as an attribute.
    vars(view).update({name: keep(tensor) for name, tensor in vars(layer).items() if isinstance(tensor, Tensor)})
    ours = from_torch(view)
    if not isinstance(ours, Recurrent):
        raise TypeError(f"expected a layer over time, got one step of it, {type(layer).__name__}")
    ours.backend, ours._norms = "eager", None
    ours._loops = tuple((suffix, Loop(copy.copy(loop.cell))) for suffix, loop in ours._loops)
    return ours


def _devices() -> range:
    """The GPUs that have been used; asking the others for random numbers would start them."""
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)


@contextmanager
def _left_as_found() -> Generator[None]:
    """Put back at the end: the states of random numbers, and the buffers of all modules that are called meanwhile."""
    buffers: dict[nn.Module, dict[str, tuple[Tensor, Tensor]]] = {}
    rebound: list[tuple[nn.Module, str, Tensor | None]] = []

    def before(module: nn.Module, _) -> None:
        for part in module.modules():
            if part not in buffers:
                buffers[part] = {name: (b, b.detach().clone()) for name, b in part._buffers.items() if b is not None}

    def after(module: nn.Module, *_) -> None:
        for name, (buffer, _) in buffers.get(module, {}).items():
            if module._buffers.get(name) is not buffer:
                rebound.append((module, name, module._buffers.get(name)))

    numpy, python = sys.modules.get("numpy"), random.getstate()
    numpys = numpy.random.get_state() if numpy else None
    hooks = register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)
    try:
        with torch.random.fork_rng(_devices()):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numpys)
        for module, name, now in rebound:
            if module._buffers.get(name) is now:  # functional_call has put back what it had replaced
                module._buffers[name] = buffers[module][name][0]
        for buffer, then in (pair for pairs in buffers.values() for pair in pairs.values()):
            if not torch.equal(buffer.nan_to_num(), then.nan_to_num()):
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(then)
