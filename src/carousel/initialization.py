"""Initializations of a cell, given to it as `init=`: each is called with the cell and changes it in place.

They compose: `LSTM(2, 64, init=(Orthogonal(), ForgetBias(1.0)))`. With none, a cell keeps torch's default.
"""

import numbers
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cells.cell import Cell, signed


@dataclass(frozen=True)
class ForgetBias:
    """Set the bias of the gate that keeps the old state (f of an LSTM, z of torch's GRU) to `value`, or where one minus
    a gate keeps it (an MGU, a Highway cell, an LSTM with coupled gates) that gate's to minus `value`; where the two
    gates are divided by their sum (a minLSTM) the writing gate's too.

    Gers et al. 2000, section 4; Jozefowicz et al. 2015, section 2.2, recommend 1. At small activations the state
    then decays by sigmoid(value) per step.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.value, numbers.Real | Tensor):
            raise TypeError(f"value should be a number, got {self.value!r}")

    def __call__(self, cell: Cell) -> None:
        _set_bias(cell, cell.keep_gate, self.value, "ForgetBias")
        if cell.normalised:  # sigmoid(v) / (sigmoid(v) + sigmoid(-v)) is sigmoid(v)
            _set_bias(cell, cell.write_gate, -self.value, "ForgetBias")


@dataclass(frozen=True)
class Chrono:
    """Spread the units' timescales over 2 to `t_max` steps (Tallec & Ollivier 2018, eq. 16).

    The keeping gate's bias is log U(1, t_max - 1), or minus that where one minus a gate keeps; the writing gate, where
    the cell has one of its own, gets its negative.

    Raises:
        ValueError: `t_max` is under 2.
    """

    t_max: int

    def __post_init__(self) -> None:
        if not isinstance(self.t_max, numbers.Real):
            raise TypeError(f"t_max should be a number of steps, got {self.t_max!r}")
        if not self.t_max >= 2:
            raise ValueError(f"t_max must be at least 2, got {self.t_max}")

    def __call__(self, cell: Cell) -> None:
        bias = cell.weight_ih.new_empty(cell.hidden_size).uniform_(1, self.t_max - 1).log()
        _set_bias(cell, cell.keep_gate, bias, "Chrono")
        if cell.write_gate is not None:
            _set_bias(cell, cell.write_gate, -bias, "Chrono")


@dataclass(frozen=True)
class Orthogonal:
    """Make each gate's recurrent matrix, and each head's, `gain` times a random orthogonal one (Saxe et al. 2014)."""

    gain: float = 1.0

    def __call__(self, cell: Cell) -> None:
        for matrix in _recurrent_matrices(cell, "Orthogonal"):
            nn.init.orthogonal_(matrix, self.gain)


@dataclass(frozen=True)
class Identity:
    """Make each gate's recurrent matrix, and each head's, `gain` times the identity, and every bias zero (Le et al.
    2015, section 2)."""

    gain: float = 1.0

    def __call__(self, cell: Cell) -> None:
        with torch.no_grad():
            for matrix in _recurrent_matrices(cell, "Identity"):
                nn.init.eye_(matrix).mul_(self.gain)
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
    for bias in (getattr(cell, name, None) for name in ("bias_ih", "bias_hh")):
        if bias is not None:
            nn.init.zeros_(bias)


def _set_bias(cell: Cell, gate: str | None, value: float | Tensor, who: str) -> None:
    """Of biases that are only ever added, the first carries the value and the others are zeroed."""
    if gate is None:
        raise ValueError(
            f"{who} needs a cell with a gate that keeps the old state; {type(cell).__name__} has none here"
        )
    gate, complement = signed(gate)
    biases = [getattr(cell, name) for name in cell.gate_biases if getattr(cell, name, None) is not None]
    if not biases:
        raise ValueError(f"{who} needs bias=True")
    with torch.no_grad():
        for bias in biases:
            bias[cell.rows(gate)] = 0
        biases[0][cell.rows(gate)] = -value if complement else value


def _recurrent_matrices(cell: Cell, who: str) -> list[Tensor]:
    """Views of the recurrent weight: a matrix for each gate, from (G*H, H) or (G*H, P); with heads apart for each gate
    and head, from (..., G*d, d) or (..., d, d)."""
    weight = getattr(cell, "weight_hh", torch.empty(0))
    rows = cell.hidden_size if weight.dim() == 2 else weight.size(-1)
    if weight.dim() < 2 or weight.size(-2) % rows or (weight.dim() == 2 and weight.size(1) != cell.output_size):
        raise ValueError(
            f"{who} needs recurrent matrices, (G*H, H) or with heads (..., G*d, d); the recurrent weight of "
            f"{type(cell).__name__} has the shape {tuple(weight.shape)}"
        )
    return [block for matrix in weight.detach().view(-1, *weight.shape[-2:]) for block in matrix.split(rows)]
