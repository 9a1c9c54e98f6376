"""The contract that a cell fulfils: what happens in ONE time step, and nothing about time."""

import math
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, ...]
Initializer = Callable[["Cell"], None]


class Cell(nn.Module):
    r"""One step of a recurrent network, in three parts that an engine may schedule as it likes.

    =============  =====================  ==========================================================
    `input_map`    :math:`W x_t + b_W`    independent of the state: one product for all time steps
    `hidden_map`   :math:`U h_{t-1}+b_U`  the only matrix product inside the recurrence
    `update`       pointwise              new state from the two maps and the old state
    =============  =====================  ==========================================================

    A new cell names its `gates` (and its `states`, if it has more than `h`) and writes `update`, in plain
    PyTorch; autograd supplies the derivative. Override the maps only where they are not the usual linear ones.
    `update` should be pure and pointwise over the hidden units; any other code still runs, eagerly.

    Called as a module, a cell takes one step with the interface of `torch.nn.LSTMCell` and its siblings.

    Args:
        input_size: features of x_t.
        hidden_size: units, H.
        bias: whether the two linear maps have biases.
        init: an initializer, or several applied in turn, from `carousel.initialization`; they run after
            torch's default, U(-1/sqrt(H), 1/sqrt(H)) for every parameter.

    Shapes: `weight_ih` (G*H, input_size), `weight_hh` (G*H, H), `bias_ih` and `bias_hh` (G*H,), for G gates.

    Raises:
        TypeError: `input_size` or `hidden_size` is no integer.
        ValueError: one of them is not greater than zero, or an initializer does not apply to this cell.
    """

    gates: ClassVar[tuple[str, ...]]
    """The blocks of H rows in the weights, in order."""
    states: ClassVar[tuple[str, ...]] = ("h",)
    """The names of the state's tensors; the first is the output, and what `hidden_map` sees."""
    keep_gate: ClassVar[str | None] = None
    """The gate that multiplies the old state (f in an LSTM, z in torch's GRU), if there is one."""
    write_gate: ClassVar[str | None] = None
    """The gate that multiplies the new content, where it is a gate of its own (i in an LSTM)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        init: Initializer | Iterable[Initializer] = (),
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.init = (init,) if callable(init) else tuple(init)

        rows = len(self.gates) * hidden_size
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {"bias_ih": None, "bias_hh": None}
        for name, shape in shapes.items():
            value = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter as torch does, in torch's order, then apply `init`."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        for initializer in self.init:
            initializer(self)

    def rows(self, gate: str) -> slice:
        """The rows of the weights and biases that belong to `gate`."""
        k = self.gates.index(gate)
        return slice(k * self.hidden_size, (k + 1) * self.hidden_size)

    def input_map(self, x: Tensor) -> Tensor:
        """(..., input_size) -> (..., G*H)."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def hidden_map(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., G*H)."""
        return F.linear(h, self.weight_hh, self.bias_hh)

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        """The cell's equations.

        Args:
            wx: (..., G*H), the input map of x_t.
            uh: (..., G*H), the hidden map of h_{t-1}.
            state: one tensor (..., H) for each name in `states`.

        Returns:
            The new state, and the gates' values by name, each (..., H), for whoever wants to look at them.
        """
        raise NotImplementedError

    def initial_state(self, x: Tensor) -> State:
        """Zeros for the batch of `x`: (..., features) -> (..., H) for each state."""
        zeros = x.new_zeros(*x.shape[:-1], self.hidden_size)
        return (zeros,) * len(self.states)

    def forward(self, input: Tensor, hx: Tensor | State | None = None) -> Tensor | State:
        """One step: (B, input_size) or (input_size,) -> (B, H) or (H,), a tuple of them if there are several states.

        Raises:
            ValueError: `input` is neither 1D nor 2D, or a state's rank is not the input's.
        """
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        state = self.initial_state(input) if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
        for tensor in state:
            if tensor.dim() != input.dim():
                raise ValueError(f"{name}: Expected hidden to be {input.dim()}D, got {tensor.dim()}D instead")
        state, _ = self.update(self.input_map(input), self.hidden_map(state[0]), state)
        return state if len(state) > 1 else state[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
