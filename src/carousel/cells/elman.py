"""The vanilla recurrent network."""

from typing import Any

import torch
from torch import Tensor, nn

from .cell import Cell, State


class RNNCell(Cell):
    r"""The simple recurrent network of Elman 1990, as in torch.

    .. math:: h_t = \phi(W x_t + b_W + U h_{t-1} + b_U), \qquad \phi \in \{\tanh, \mathrm{relu}\}

    The error flows back through :math:`\partial h_t/\partial h_{t-1} = \mathrm{diag}(\phi') U`, once per step:
    nothing in it is held near one, hence the vanishing and exploding gradients of Bengio et al. 1994.

    Args:
        nonlinearity: "tanh" or "relu".

    State: h, (B, H). Other arguments, shapes and errors: see `Cell`.
    """

    gates = ("h",)
    torch_modules = (nn.RNNCell, nn.RNN)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype, **options)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        a = wx + uh  # (B, H)
        h = a.tanh() if self.nonlinearity == "tanh" else a.relu()
        return (h,), {}

    def torch_module(self, which: int, **options: Any) -> nn.Module:
        return super().torch_module(which, nonlinearity=self.nonlinearity, **options)
