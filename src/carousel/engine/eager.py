"""The plain loop, composed with autograd: the reference for every other way of running a cell."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..cells.cell import Cell, State
from . import torch_kernels
from .autocast import suspended
from .registry import REGISTRY


class Masks(NamedTuple):
    """What changes a run over time, step by step or throughout; None changes nothing."""

    reset: Tensor | None = None
    """(T, B, 1) bool: the state is zeroed before the step."""
    recurrent: Tensor | None = None
    """(B, H): multiplies h_{t-1} on its way into the hidden map."""
    update_mask: tuple[Tensor | None, ...] = ()
    """For each state (T, B, 1 or H) in [0, 1]: how far it moves to its new value. Empty: all the way."""
    real: Tensor | None = None
    """(T, B, 1): 0 in padding, else 1; for the measures, since `update_mask` holds it already."""
    detach_gates: bool | Tensor = False
    """Whether no gradient goes back through the hidden map; if that changes from step to step, (T, 1, 1) bool."""
    detach_carousel: bool | Tensor = False
    """Whether no gradient goes back but through the hidden map."""

    @property
    def kinds(self) -> "Kinds":
        update_mask = tuple(0 if m is None else 1 if m.size(-1) == 1 else 2 for m in self.update_mask)
        detach = (
            self.detach_gates,
            self.detach_carousel,
        )  # where sizes are symbols, a compiler's True is none of its own
        detach = (2 if isinstance(where, Tensor) else where is True for where in detach)
        return Kinds(self.reset is not None, self.recurrent is not None, update_mask, *detach)

    def before(self, state: State, t: int) -> State:
        """The state that step t begins with."""
        return state if self.reset is None else tuple(s.masked_fill(self.reset[t], 0.0) for s in state)

    def ways(self, begun: State, t: int) -> tuple[Tensor, State]:
        """What of a step's first state the hidden map sees, and what the update is given directly."""

        def detached(s: Tensor, where: bool | Tensor) -> Tensor:
            if isinstance(where, Tensor):
                return torch.where(where[t], s.detach(), s)
            return s.detach() if where else s

        hidden_input = begun[0] if self.recurrent is None else begun[0] * self.recurrent
        return detached(hidden_input, self.detach_gates), tuple(detached(s, self.detach_carousel) for s in begun)

    def after(self, old: State, new: State, t: int) -> State:
        """The state that step t ends with."""
        if not self.update_mask:
            return new
        now = (None if mask is None else mask[t] for mask in self.update_mask)
        return tuple(b if m is None else _lerp(a, b, m) for a, b, m in zip(old, new, now, strict=True))


class Kinds(NamedTuple):
    """Which masks there are; of each state's update mask, 0 if none, 1 if all units have the same, 2 if each has its
    own; and of what is detached, 0 if never, 1 if in every step, 2 if that changes from step to step."""

    reset: bool = False
    recurrent: bool = False
    update_mask: tuple[int, ...] = ()
    detach_gates: int = 0
    detach_carousel: int = 0


class Norms:
    """The squared norms of the gradients with respect to what a cell makes of each state in each step of one run.

    Every backward pass through the run adds its own. An operator can't be given such an object, but its `token`.
    """

    def __init__(self, loop: "Loop", steps: int, batch: int) -> None:
        self.loop, self.shape = loop, (steps, batch, len(loop.cell.states))
        self.total: Tensor | None = None
        """(T, B, states), float64; None before the first backward pass."""
        self.token = REGISTRY.watch(self)

    def add(self, squares: Tensor) -> None:
        """(T, B, states)."""
        self.total = squares if self.total is None else self.total + squares

    def follow(self, state: State, t: int) -> None:
        """Have autograd tell of the gradients of what step t makes."""

        def note(d: Tensor, k: int) -> None:
            if self.total is None:
                self.total = torch.zeros(self.shape, dtype=torch.float64, device=d.device)
            self.total[t, :, k] += d.detach().double().square().sum(-1)

        for k, s in enumerate(state):
            if s.requires_grad:
                s.register_hook(lambda d, k=k: note(d, k))


def _lerp(old: Tensor, new: Tensor, update_mask: Tensor) -> Tensor:
    dtype = torch.promote_types(old.dtype, new.dtype)  # under autocast they differ
    return torch.lerp(old.to(dtype), new.to(dtype), update_mask.to(dtype))


class Loop(nn.Module):
    """A cell over time. A module, so that hooks can watch it and `torch.func.functional_call` give it parameters."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell
        self.names = tuple(name for found in (cell.named_parameters(), cell.named_buffers()) for name, _ in found)
        """Of the cell's parameters and buffers: what a run is given."""
        self.function = torch_kernels.function(cell, self.names)
        """The name of torch's own for a layer of this cell, "" if there is none."""

    def forward(
        self, x: Tensor, state: State, masks: Masks, record: bool = False, norms: Norms | None = None
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Run over x.

        Args:
            x: (T, B, input_size), T at least 1.
            state: (B, H) for each of the cell's states.
            masks: see `Masks`.
            record: whether to keep every gate and every state of every step.
            norms: is told of the gradient with respect to what the cell makes of each state in each step.

        Returns:
            The output (T, B, H), the last state, and the record: (T, B, H) for each name, empty unless asked for.
        """
        outputs, records = [], []
        for t, row in enumerate(rows(self.cell, x)):
            state = masks.before(state, t)
            new, gates = step(self.cell, row, state, masks, t)
            state = masks.after(state, new, t)
            outputs.append(state[0])
            if norms is not None:
                norms.follow(new, t)
            if record:
                records.append(gates | dict(zip(self.cell.states, state, strict=True)))
        kept = {name: torch.stack([step[name] for step in records]) for name in records[0]} if record else {}
        return torch.stack(outputs), state, kept


def derivative(
    function: Callable[..., Sequence[Tensor]],
    given: Sequence[Tensor],
    needs: Sequence[bool],
    arriving: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """What autograd makes of the gradients that arrive at a function's results: those of what it was given, as needed.
    Where gradients are enabled, it can be differentiated in turn."""
    further = torch.is_grad_enabled()
    with torch.enable_grad(), suspended(given[0]):
        # By aliases, for they may depend on each other: what comes back through one must not count for the other.
        given = [t.view_as(t) for t in given]
        pairs = [(y, d) for y, d in zip(function(*given), arriving, strict=True) if d is not None and y.requires_grad]
        wanted = [t for t, need in zip(given, needs, strict=True) if need]
        found = iter([None] * len(wanted))
        if pairs:
            ys, ds = zip(*pairs, strict=True)
            found = iter(torch.autograd.grad(ys, wanted, ds, create_graph=further, allow_unused=True))
    return [next(found) if need else None for need in needs]


def rows(cell: Cell, x: Tensor) -> tuple[Tensor, ...]:
    """What each step of a cell reads: a row of its input map, done for all steps at once, (B, G*H); or, for a cell
    with a `forward` of its own, x_t."""
    return (cell.input_map(x) if type(cell).forward is Cell.forward else x).unbind(0)


def step(cell: Cell, row: Tensor, state: State, masks: Masks, t: int) -> tuple[State, dict[str, Tensor]]:
    """Step t of a cell from one of its `rows`; a cell with a `forward` of its own shows no gates.

    Raises:
        ValueError: such a cell has no hidden map for a recurrent mask, or what is detached, to apply to.
    """
    if type(cell).forward is not Cell.forward:
        for what, wanted in (
            ("recurrent dropout", masks.recurrent is not None),
            ("detaching", masks.detach_gates is not False or masks.detach_carousel is not False),
        ):
            if wanted:
                kind = type(getattr(cell, "itself", cell)).__name__
                raise ValueError(f"{what} needs a hidden map; {kind} has a forward of its own")
        new = cell(row, state[0] if len(state) == 1 else state)
        return ((new,) if isinstance(new, Tensor) else tuple(new)), {}
    hidden_input, held = masks.ways(state, t)
    return cell.step(row, held, hidden_input)
