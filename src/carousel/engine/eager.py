"""The plain loop, composed with autograd: the reference for every other way of running a cell."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..cells.cell import Cell, State


class Masks(NamedTuple):
    """What changes a run over time, step by step or throughout; None changes nothing."""

    reset: Tensor | None = None
    """(T, B, 1) bool: the state is zeroed before the step."""
    recurrent: Tensor | None = None
    """(B, H): multiplies h_{t-1} on its way into the hidden map."""
    share: tuple[Tensor | None, ...] = ()
    """For each state (T, B, 1 or H) in [0, 1]: how far it moves to its new value. Empty: all the way."""


class Loop(nn.Module):
    """A cell over time. A module, so that `torch.func.functional_call` can lend it the parameters to use."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(
        self, x: Tensor, state: State, masks: Masks, record: bool = False
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Run over x.

        Args:
            x: (T, B, input_size), T at least 1.
            state: (B, H) for each of the cell's states.
            masks: see `Masks`.
            record: whether to keep every gate and every state of every step.

        Returns:
            The output (T, B, H), the last state, and the record: (T, B, H) for each name, empty unless asked for.
        """
        outputs, records = [], []
        for t, wx in enumerate(self.cell.input_map(x).unbind(0)):  # (B, G*H)
            if masks.reset is not None:
                state = tuple(s.masked_fill(masks.reset[t], 0.0) for s in state)
            new, gates = self.cell.step(wx, state, masks.recurrent)
            state = tuple(_move(old, s, share, t) for old, s, share in zip(state, new, masks.share)) or new  # noqa: B905
            outputs.append(state[0])
            if record:
                records.append(gates | dict(zip(self.cell.states, state, strict=True)))
        kept = {name: torch.stack([step[name] for step in records]) for name in records[0]} if record else {}
        return torch.stack(outputs), state, kept


def _move(old: Tensor, new: Tensor, share: Tensor | None, t: int) -> Tensor:
    return new if share is None else torch.lerp(old, new, share[t])
