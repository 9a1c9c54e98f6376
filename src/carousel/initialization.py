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
    a gate keeps it (an MGU, a Highway cell, an LSTM with coupled gates) that gate's to minus `value`.

    Gers et al. 2000, section 4; Jozefowicz et al. 2015, section 2.2, recommend 1. At small activations the state
    then decays by sigmoid(value) per step.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.value, numbers.Real | Tensor):
            raise TypeError(f"value should be a number, got {self.value!r}")

    def __call__(self, cell: Cell) -> None:
        _set_bias(cell, cell.keep_gate, self.value, "ForgetBias")


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
        _check_t_max(self.t_max, 2)

    def __call__(self, cell: Cell) -> None:
        bias = cell.weight_hh.new_empty(cell.hidden_size).uniform_(1, self.t_max - 1).log()
        _set_bias(cell, cell.keep_gate, bias, "Chrono")
        if cell.write_gate is not None:
            _set_bias(cell, cell.write_gate, -bias, "Chrono")


@dataclass(frozen=True)
class RecurrentUniform:
    """Draw the recurrent weight of units that see themselves alone from U(0, 2^(1/t_max)): no gradient grows by more
    than a factor of 2 within `t_max` steps (Li et al. 2018, section 4.1, for `IndRNNCell`).

    Raises:
        ValueError: `t_max` is under 1.
    """

    t_max: int

    def __post_init__(self) -> None:
        _check_t_max(self.t_max, 1)

    def __call__(self, cell: Cell) -> None:
        if cell.weight_hh.shape not in ((cell.hidden_size,), (cell.hidden_size, 1)):
            raise ValueError(
                "RecurrentUniform needs a cell with one recurrent weight a unit, as an IndRNNCell; "
                f"that of {type(cell).__name__} has the shape {tuple(cell.weight_hh.shape)}"
            )
        nn.init.uniform_(cell.weight_hh, 0, 2 ** (1 / self.t_max))


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
    if cell.bias:
        nn.init.zeros_(cell.bias_ih)
        nn.init.zeros_(cell.bias_hh)


def _set_bias(cell: Cell, gate: str | None, value: float | Tensor, who: str) -> None:
    """Of the two biases that are only ever added, one carries the value and the other is zeroed."""
    if gate is None:
        raise ValueError(
            f"{who} needs a cell with a gate that keeps the old state; {type(cell).__name__} has none here"
        )
    gate, complement = signed(gate)
    biases = [getattr(cell, name, None) for name in cell.gate_biases]
    if any(bias is None for bias in biases):
        raise ValueError(f"{who} needs bias=True")
    with torch.no_grad():
        biases[0][cell.rows(gate)] = -value if complement else value
        biases[1][cell.rows(gate)] = 0


def _recurrent_matrices(cell: Cell, who: str) -> list[Tensor]:
    """Views of the recurrent weight: a matrix for each gate, from (G*H, H) or (G*H, P); with heads apart for each gate
    and head, from (..., G*d, d) or (..., d, d)."""
    weight = cell.weight_hh
    rows = cell.hidden_size if weight.dim() == 2 else weight.size(-1)
    if weight.dim() < 2 or weight.size(-2) % rows or (weight.dim() == 2 and weight.size(1) != cell.output_size):
        raise ValueError(
            f"{who} needs recurrent matrices, (G*H, H) or with heads (..., G*d, d); the recurrent weight of "
            f"{type(cell).__name__} has the shape {tuple(weight.shape)}"
        )
    return [block for matrix in weight.detach().view(-1, *weight.shape[-2:]) for block in matrix.split(rows)]


def _check_t_max(t_max: float, least: int) -> None:
    if not isinstance(t_max, numbers.Real):
        raise TypeError(f"t_max should be a number of steps, got {t_max!r}")
    if not t_max >= least:
        raise ValueError(f"t_max must be at least {least}, got {t_max}")
