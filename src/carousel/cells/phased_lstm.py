"""The LSTM whose units open at times of their own."""

from typing import Any

import torch
from torch import Tensor, nn

from .cell import State
from .elapsed import TimedCell


class PhasedLSTMCell(TimedCell):
    r"""The phased LSTM (Neil et al. 2016, eqs. 6-11): a clock opens each unit for a short part of its period.

    .. math::
        \phi_t &= ((t - s) \bmod \tau) / \tau, \qquad
        k_t = \begin{cases} 2\phi_t / r & \phi_t < r/2 \\ 2 - 2\phi_t / r & r/2 \le \phi_t < r \\
            \alpha\phi_t & \text{else} \end{cases} \\
        c_t &= k_t \odot \tilde c_t + (1 - k_t) \odot c_{t-1} \\
        h_t &= k_t \odot \tilde h_t + (1 - k_t) \odot h_{t-1}

    where :math:`\tilde c_t, \tilde h_t` are what an LSTM makes, h of its new cell state. While a unit is shut its error
    stands still; the timescales that `gradients.gates` gives are those of its open steps.

    Args:
        timed: whether the last feature of x is the time since the step before; otherwise it is 1. The clock starts at 0
            before a sequence, and t is the sum.
        ratio: r, the part of a period in which a unit is open.
        leak: :math:`\alpha`; outside of training it is 0.
        periods: the logarithms of the periods are drawn uniformly between those of these two.

    Shapes: `log_period` is log tau, `shift` s, which starts as U(0, tau), each (H,). State: h, c and t, each (B, H).
    Other arguments, shapes and errors: see `Cell`.
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c", "t")
    held = (("h",), ("c",))  # the clock goes on
    keep_gate, write_gate = "f", "i"

    def __init__(
        self,
        *arguments: Any,
        ratio: float = 0.05,
        leak: float = 0.001,
        periods: tuple[float, float] = (1.0, 1000.0),
        **options: Any,
    ) -> None:
        low, high = periods
        if not 0 < low <= high:
            raise ValueError(f"periods should be two times, the shorter one first, got {periods}")
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio should be in (0, 1], got {ratio}")
        self.ratio, self.leak, self.periods = ratio, leak, (low, high)
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return super().shapes() | {"log_period": (self.hidden_size,), "shift": (self.hidden_size,)}

    def draw(self, name: str, parameter: Tensor) -> None:
        if name == "log_period":
            low, high = torch.tensor(self.periods).log().tolist()
            nn.init.uniform_(parameter, low, high)
        elif name == "shift":
            with torch.no_grad():
                parameter.uniform_().mul_(self.log_period.exp())
        else:
            super().draw(name, parameter)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        h, c, t = state
        wx, elapsed = self.apart(wx)
        i, f, g, o = (wx + uh).chunk(4, -1)  # (B, H) each
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        t = t + elapsed
        period = self.log_period.exp()  # (H,)
        phase = (t - self.shift).remainder(period) / period
        rising = 2 * phase / self.ratio
        shut = self.leak * phase if self.training else torch.zeros_like(phase)
        k = torch.where(phase < self.ratio / 2, rising, torch.where(phase < self.ratio, 2 - rising, shut))
        new = f * c + i * g
        c = k * new + (1 - k) * c
        h = k * (o * new.tanh()) + (1 - k) * h
        return (h, c, t), {"i": i, "f": f, "g": g, "o": o, "k": k}
