"""Initializations of a cell, given to it as `init=`: each is called with the cell and changes it in place.

They compose: `LSTM(2, 64, init=(Orthogonal(), ForgetBias(1.0)))`. With none, a cell keeps torch's default.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .cells.cell import Cell


def _set_bias(cell: Cell, gate: str | None, value: float | torch.Tensor, who: str) -> None:
    """Torch keeps two biases that are only ever added: one carries the value, the other is zeroed."""
    if gate is None:
        raise ValueError(f"{who} needs a cell with a gate that keeps the old state; {type(cell).__name__} has none")
    if not cell.bias:
        raise ValueError(f"{who} needs bias=True")
    with torch.no_grad():
        cell.bias_ih[cell.rows(gate)] = value
        cell.bias_hh[cell.rows(gate)] = 0


@dataclass(frozen=True)
class ForgetBias:
    """Set the bias of the gate that keeps the old state (f of an LSTM, z of torch's GRU).

    Gers et al. 2000, section 4; Jozefowicz et al. 2015, section 2.2, recommend 1. At small activations the state
    then decays by sigmoid(value) per step.
    """

    value: float = 1.0

    def __call__(self, cell: Cell) -> None:
        _set_bias(cell, cell.keep_gate, self.value, "ForgetBias")


@dataclass(frozen=True)
class Chrono:
    """Spread the units' timescales over 2 to `t_max` steps (Tallec & Ollivier 2018, eq. 16).

    The keeping gate's bias is log U(1, t_max - 1); the writing gate, where the cell has one, gets its negative.

    Raises:
        ValueError: `t_max` is under 2.
    """

    t_max: int

    def __post_init__(self) -> None:
        if self.t_max < 2:
            raise ValueError(f"t_max must be at least 2, got {self.t_max}")

    def __call__(self, cell: Cell) -> None:
        bias = cell.weight_hh.new_empty(cell.hidden_size).uniform_(1, self.t_max - 1).log()
        _set_bias(cell, cell.keep_gate, bias, "Chrono")
        if cell.write_gate is not None:
            _set_bias(cell, cell.write_gate, -bias, "Chrono")


@dataclass(frozen=True)
class Orthogonal:
    """Make each gate's recurrent matrix `gain` times a random orthogonal one (Saxe et al. 2014)."""

    gain: float = 1.0

    def __call__(self, cell: Cell) -> None:
        for gate in cell.gates:
            nn.init.orthogonal_(cell.weight_hh[cell.rows(gate)], self.gain)


@dataclass(frozen=True)
class Identity:
    """Make each gate's recurrent matrix `gain` times the identity, and every bias zero (Le et al. 2015, section 2)."""

    gain: float = 1.0

    def __call__(self, cell: Cell) -> None:
        with torch.no_grad():
            for gate in cell.gates:
                nn.init.eye_(cell.weight_hh[cell.rows(gate)]).mul_(self.gain)
        _zero_biases(cell)


@dataclass(frozen=True)
class Glorot:
    """Draw each gate's input matrix as Glorot & Bengio 2010 (eq. 16), and make every bias zero.

    With `Orthogonal` and `ForgetBias(1.0)` after it, the default of Keras.
    """

    def __call__(self, cell: Cell) -> None:
        for gate in cell.gates:
            nn.init.xavier_uniform_(cell.weight_ih[cell.rows(gate)])
        _zero_biases(cell)


def _zero_biases(cell: Cell) -> None:
    if cell.bias:
        nn.init.zeros_(cell.bias_ih)
        nn.init.zeros_(cell.bias_hh)
