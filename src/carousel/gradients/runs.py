"""What the measures look at: each layer and direction of a recurrent layer, in one run of the model around it."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..cells import Cell
from ..cells.cell import State
from ..engine import Masks, rows, step
from ..layer import Recurrent
from ..regularization import Detach
from ..twins import from_torch


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

    def step(self, t: int, state: State) -> tuple[State, State, dict[str, Tensor]]:
        """What the cell makes of a state in step t, the state after it, and the gates. The first two differ where a
        mask holds a state back, in padding or by zoneout."""
        begun = self.masks.before(state, t)
        new, gates = step(self.cell, self.rows[t], begun, self.masks, t)
        return new, self.masks.after(begun, new, t), gates


@dataclass(frozen=True)
class Call:
    """One call of a layer, and the random numbers it began with."""

    layer: nn.Module
    args: tuple
    kwargs: dict
    result: Any
    draws: list[Tensor]

    def again(self, hook: Callable | None = None, attached: bool = False) -> tuple[Any, list[Run]]:
        """The same once more, in the plain loop; `hook` is a forward hook for each loop. A layer of torch.nn runs as
        its twin, and if `attached` nothing is detached that is in training. Returns the layer's result, and a `Run` for
        each layer and direction in the order of torch's states.
        """
        twin = copy.copy(_recurrent(self.layer))
        twin.backend, twin._norms = "eager", None
        if attached:
            twin.detach = Detach()
        runs = []

        def keep(loop, args, _):
            x, state, masks, *_ = args
            runs.append(Run(loop.cell, tuple(r.detach() for r in rows(loop.cell, x.detach())), state, masks))

        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(range(torch.cuda.device_count())))
            torch.set_rng_state(self.draws[0])
            torch.cuda.set_rng_state_all(self.draws[1:])
            for _, loop in twin._loops:
                stack.callback(loop.register_forward_hook(keep).remove)
                if hook:
                    stack.callback(loop.register_forward_hook(hook).remove)
            return twin(*self.args, **self.kwargs), runs


def _recurrent(layer: nn.Module) -> Recurrent:
    twin = from_torch(layer)
    if not isinstance(twin, Recurrent):
        raise TypeError(f"expected a layer over time, got one step of it, {type(layer).__name__}")
    return twin


def observe(layer: nn.Module, model: Callable[[], Any]) -> tuple[Any, Call]:
    """Run a model that contains `layer`, once: what it returns, and the layer's call.

    Raises:
        TypeError: the layer is neither ours nor one that `from_torch` takes.
        ValueError: the model ran it not exactly once.
    """
    _recurrent(layer)
    calls, draws = [], []

    def before(*_):
        draws.append([torch.get_rng_state(), *torch.cuda.get_rng_state_all()])

    with ExitStack() as stack:
        stack.callback(layer.register_forward_pre_hook(before).remove)
        hook = layer.register_forward_hook(lambda _, *call: calls.append(call), with_kwargs=True)
        stack.callback(hook.remove)
        value = model()
    if len(calls) != 1:
        raise ValueError(f"the model must run the layer exactly once, not {len(calls)} times")
    return value, Call(layer, *calls[0], draws[0])


def runs(layer: nn.Module, model: Callable[[], Any]) -> list[Run]:
    """Run a model that contains `layer`: a `Run` for each layer and direction, in the order of torch's states.

    Raises:
        TypeError, ValueError: as `observe`.
    """
    with torch.no_grad():
        return observe(layer, model)[1].again()[1]
