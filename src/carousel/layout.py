"""The states of a layer: stacked as torch.nn.LSTM has them, and taken apart for the loops."""

from typing import Any

import torch
from torch import Tensor

from .cells import Cell
from .cells.cell import State


def split_states(hx: Any, cells: list[Cell], group: int, x: Tensor, batched: bool) -> list[State | None]:
    """`hx`, as the caller gives it, to (B, H) for each state of each loop; zeros for the batch of x (T, B, I) if None,
    or None for a cell that begins otherwise, for which it takes its weights and its own input.

    `group` is how many loops' states are stacked in one tensor: with all of them in one, hx is that; otherwise hx is a
    tuple with one such thing for each group.

    Raises:
        RuntimeError: the states are not as many, or not of the rank or size, as the cells want; torch's words.
    """
    if hx is None:
        zeros = Cell.initial_state
        return [cell.initial_state(x[0]) if type(cell).initial_state is zeros else None for cell in cells]
    parts = [hx] if group == len(cells) else hx
    if len(parts) * group != len(cells) or (parts is hx and len(cells[0].states) > 1 and isinstance(hx[0], Tensor)):
        raise RuntimeError(f"layers of different widths need the state of each of {len(cells) // group}, one by one")
    states: list[State | None] = []
    for k, part in enumerate(parts):
        given = (part,) if isinstance(part, Tensor) else tuple(part)
        _check(given, cells[k * group : (k + 1) * group], x.size(1), batched)
        states += zip(*((s if batched else s.unsqueeze(1)).unbind(0) for s in given), strict=True)
    return states


def join_states(states: list[State], group: int, batched: bool) -> Any:
    """The inverse of `split_states`: (B, H) for each state of each loop, to what the caller gets."""
    parts = [states[k : k + group] for k in range(0, len(states), group)]
    joined = tuple(_stack(part, batched) for part in parts)
    return joined[0] if group == len(states) else joined


def _stack(states: list[State], batched: bool) -> Tensor | State:
    """(B, H) for each loop and state -> (L * D, B, H), or (L * D, H) for one sequence, for each state."""
    stacked = tuple(torch.stack(s) if batched else torch.cat(s) for s in zip(*states, strict=True))
    return stacked[0] if len(stacked) == 1 else stacked


def _check(given: State, cells: list[Cell], batch: int, batched: bool) -> None:
    names = cells[0].states
    if len(given) != len(names):
        raise RuntimeError(f"Expected {len(names)} states {names}, got {len(given)}")
    ranks = [s.dim() for s in given]
    if any(rank != 2 + batched for rank in ranks):
        kind, right = ("batched 3-D", 3) if batched else ("unbatched 2-D", 2)
        if len(given) == 1:
            raise RuntimeError(f"For {kind} input, hx should also be {right}-D but got {ranks[0]}-D tensor")
        shown = ", ".join(f"{rank}-D" for rank in ranks)
        raise RuntimeError(f"For {kind} input, hx and cx should also be {right}-D but got ({shown}) tensors")
    for k, (tensor, size) in enumerate(zip(given, cells[0].state_sizes, strict=True)):
        got = list(tensor.shape) if batched else [tensor.size(0), 1, tensor.size(1)]
        if got != [len(cells), batch, size]:
            what = f"hidden[{k}]" if len(given) > 1 else "hidden"
            raise RuntimeError(f"Expected {what} size {(len(cells), batch, size)}, got {got}")
