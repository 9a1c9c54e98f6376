"""Coupled oscillators."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State


class CoRNNCell(Cell):
    r"""Damped oscillators that drive each other (Rusch & Mishra 2021, ICLR, eq. 3, as the authors' code steps them).

    .. math::
        z_t &= z_{t-1} + \Delta t\,(\tanh(W y_{t-1} + \mathcal{W} z_{t-1} + V x_t + b)
            - \gamma y_{t-1} - \epsilon z_{t-1}) \\
        y_t &= y_{t-1} + \Delta t\, z_t

    Args:
        dt: the time step.
        gamma: the square of the oscillators' frequency.
        epsilon: their damping. The defaults of the three are the authors' for sequential MNIST.

    Shapes: `weight_hh` is W and `weight_zh` the other one, each (H, H); there is one bias, `bias_ih`. All start
    as those of one nn.Linear of x, y and z, as in the authors' code. State: y, z, each (B, H). Other arguments and
    errors: see `Cell`.
    """

    gates = ("a",)
    states = ("y", "z")

    def __init__(
        self, *arguments: Any, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7, **options: Any
    ) -> None:
        self.dt, self.gamma, self.epsilon = dt, gamma, epsilon
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = super().shapes() | {"weight_zh": (self.hidden_size, self.hidden_size)}
        return {name: shape for name, shape in shapes.items() if name != "bias_hh"}

    def draw(self, name: str, parameter: Tensor) -> None:
        bound = 1 / math.sqrt(max(self.input_size + 2 * self.hidden_size, 1))
        nn.init.uniform_(parameter, -bound, bound)

    def hidden_map(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight_hh)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        y, z = state
        force = (wx + uh + F.linear(z, self.weight_zh)).tanh()  # (B, H)
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        y = y + self.dt * z
        return (y, z), {}
