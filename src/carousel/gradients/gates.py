"""What the gates do: how often they are closed and open, and how long the units remember."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..cells.cell import signed
from .runs import runs

CLOSED, OPEN = 0.1, 0.9


@dataclass(frozen=True)
class Gates:
    """The gates of one layer and direction, over all sequences and their real steps, padding left out."""

    values: dict[str, Tensor]
    """(N, H) for each gate by its name, N sequences times steps; candidates, such as g of an LSTM, count as gates."""
    keep_gate: str | None
    """What multiplies the old state, if the cell has such a thing: "f" in an LSTM, "z" in a GRU, "1 - f" in an MGU."""

    def closed(self) -> dict[str, Tensor]:
        """The share of steps in which each unit's gate is under 0.1: (H,) for each gate."""
        return {name: (value < CLOSED).double().mean(0) for name, value in self.values.items()}

    def open(self) -> dict[str, Tensor]:
        """The share of steps in which each unit's gate is over 0.9 (Karpathy et al. 2015, section 4.2): (H,)."""
        return {name: (value > OPEN).double().mean(0) for name, value in self.values.items()}

    def keep(self) -> Tensor:
        """How much of the old state each unit keeps, by the gate that `keep_gate` names: (N, H), in float64.

        Raises:
            ValueError: the cell has no such gate.
        """
        if self.keep_gate is None:
            raise ValueError("the cell has no gate that keeps the old state, so its units have no timescale")
        gate, complement = signed(self.keep_gate)
        value = self.values[gate].double()
        return 1 - value if complement else value

    def timescales(self) -> Tensor:
        """The steps that each unit remembers: 1/(1 - f), f the mean of what it keeps (Tallec & Ollivier 2018,
        section 2): (H,).

        Raises:
            ValueError: the cell has no gate that keeps the old state.
        """
        return 1 / (1 - self.keep().mean(0))


def gates(layer: nn.Module, model: Callable[[], Any]) -> list[Gates]:
    """Look at the gates in one run of a model that contains `layer`.

    Args:
        layer: a `Recurrent` layer, or one of torch.nn that `from_torch` takes.
        model: runs the model, once.

    Returns:
        One `Gates` for each layer and direction, in the order of torch's states; a cell without gates has no values.

    Raises:
        TypeError, ValueError: `layer` is no such layer, or the model ran it not exactly once.
    """
    found = []
    with runs(layer, model) as seen:
        for run in seen:
            state, real, steps = run.state, [], []
            for t in range(len(run.rows)):
                _, state, values = run.step(t, state)
                real.append(run.real(t).squeeze(-1))
                steps.append(values)
            active = torch.stack(real)  # (T, B)
            values = {name: torch.stack([step[name] for step in steps])[active] for name in steps[0]}
            found.append(Gates(values, run.cell.keep_gate))
    return found
