"""The plain loop, composed with autograd: the reference for every other way of running a cell."""

import torch
from torch import Tensor, nn

from ..cells.cell import Cell, State


class Loop(nn.Module):
    """A cell over time. A module, so that `torch.func.functional_call` can hand it the parameters to use."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State, record: bool = False) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Run over x.

        Args:
            x: (T, B, input_size), T at least 1.
            state: (B, H) for each of the cell's states.
            record: whether to keep every gate and every state of every step.

        Returns:
            The output (T, B, H), the last state, and the record: (T, B, H) for each name, empty unless asked for.
        """
        outputs, records = [], []
        for wx in self.cell.input_map(x).unbind(0):  # (B, G*H)
            state, gates = self.cell.update(wx, self.cell.hidden_map(state[0]), state)
            outputs.append(state[0])
            if record:
                records.append(gates | dict(zip(self.cell.states, state, strict=True)))
        kept = {name: torch.stack([step[name] for step in records]) for name in records[0]} if record else {}
        return torch.stack(outputs), state, kept
