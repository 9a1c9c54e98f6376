"""Undamped oscillators that see themselves alone."""

from typing import Any

from torch import Tensor, nn

from .cell import Cell, State


class UnICORNNCell(Cell):
    r"""One oscillator a unit, stepped so that no volume of the state space is lost (Rusch & Mishra 2021, eq. 3).

    .. math::
        z_t &= z_{t-1} - \Delta \odot (\tanh(w \odot y_{t-1} + V x_t + b) + \alpha y_{t-1}),
            \qquad \Delta = \delta\, \sigma(c) \\
        y_t &= y_{t-1} + \Delta \odot z_t

    Args:
        dt: :math:`\delta`, the longest time step.
        alpha: how strongly a unit is drawn back to zero.

    Shapes: `weight_hh` is w, (H, 1), which starts as U(0, 1), and `speed` c, (H,), which starts as U(-0.1, 0.1),
    both as in the authors' code; `weight_ih` is V. State: y, z, each (B, H). Other arguments and errors: see `Cell`.
    """

    gates = ("a",)
    states = ("y", "z")

    def __init__(self, *arguments: Any, dt: float = 0.1, alpha: float = 1.0, **options: Any) -> None:
        self.dt, self.alpha = dt, alpha
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = super().shapes() | {"weight_hh": (self.hidden_size, 1), "speed": (self.hidden_size,)}
        return {name: shape for name, shape in shapes.items() if name != "bias_hh"}

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "weight_hh":
            nn.init.uniform_(parameter, 0, 1)
        elif name == "speed":
            nn.init.uniform_(parameter, -0.1, 0.1)
        elif name == "weight_ih":
            nn.init.kaiming_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)

    def hidden_map(self, h: Tensor) -> Tensor:
        return self.weight_hh.squeeze(-1) * h

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        y, z = state
        step = self.dt * self.speed.sigmoid()  # (H,)
        z = z - step * ((uh + wx).tanh() + self.alpha * y)
        y = y + step * z
        return (y, z), {}
