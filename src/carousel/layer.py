"""Any cell as a layer with the interface of `torch.nn.LSTM`."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .cells.cell import State
from .engine import Loop


class Recurrent(nn.Module):
    """A recurrent layer: the cell knows one step, the layer owns time.

    The parameters are the layer's own, under torch's names (`weight_ih_l0`, ...), so that the `state_dict` of the
    twin in `torch.nn` loads as it is, both ways; with the same seed the two also start from the same numbers.

    Args:
        cell: a subclass of `Cell`.
        input_size: features of x_t.
        hidden_size: units, H.
        bias: whether the cell has biases.
        batch_first: (batch, seq, feature) in place of (seq, batch, feature), for input and output alike.
        options: whatever else the cell takes, such as `init`.

    Raises:
        TypeError, ValueError: as the cell's constructor.
    """

    def __init__(
        self,
        cell: type[Cell],
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.bias, self.batch_first = bias, batch_first
        loop = Loop(cell(input_size, hidden_size, bias=bias, device=device, dtype=dtype, **options))
        for name, parameter in loop.cell.named_parameters():
            self.register_parameter(f"{name}_l0", parameter)
        # In a tuple the loop is no submodule: the parameters stand in the layer alone and are lent at each call.
        self._loops = (loop.to("meta"),)

    def _parameters_of(self, k: int) -> dict[str, Tensor]:
        return {name: getattr(self, f"{name}_l{k}") for name, _ in self._loops[k].cell.named_parameters()}

    def cell(self, layer: int = 0) -> Cell:
        """The cell of `layer`, with the layer's own parameters (not copies), to take single steps with."""
        view = copy.copy(self._loops[layer].cell)
        view._parameters = dict(view._parameters) | self._parameters_of(layer)
        return view

    def reset_parameters(self) -> None:
        """Initialise anew."""
        self.cell().reset_parameters()

    def forward(self, input: Tensor, hx: Tensor | State | None = None) -> tuple[Tensor, Tensor | State]:
        """Run over a sequence.

        Args:
            input: (T, B, input_size), or (B, T, input_size) with `batch_first`, or (T, input_size) for one sequence.
            hx: the state before the first step, zeros if None: (1, B, H), or (1, H) for one sequence; a tuple of
                them, in the order of the cell's `states`, if it has several, as nn.LSTM's (h_0, c_0).

        Returns:
            h_t of every step, laid out as the input, and the last state, laid out as `hx`.

        Raises:
            ValueError: `input` is neither 2D nor 3D.
            RuntimeError: the number of features or the state's shape is wrong, or the sequence is empty.
        """
        output, state, _ = self._run(input, hx)
        return output, state

    def inspect(self, input: Tensor, hx: Tensor | State | None = None) -> dict[str, Tensor]:
        """Every gate and every state of every step, by name, each laid out as the output.

        For an LSTM: i, f, g, o, h and c. Arguments and errors as in `forward`.
        """
        return self._run(input, hx, record=True)[2]

    def _run(self, input: Tensor, hx: Tensor | State | None, record: bool = False):
        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)  # (T, B, I), once it is
        x = x.transpose(0, 1) if self.batch_first and batched else x
        if x.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.size(-1)}"
            )
        if x.size(0) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        (loop,) = self._loops
        state = self._state_in(loop.cell, x, hx, batched)
        lent = {f"cell.{name}": parameter for name, parameter in self._parameters_of(0).items()}
        output, state, kept = functional_call(loop, lent, (x, state, record))

        def arrange(y: Tensor) -> Tensor:  # (T, B, H), as the input came
            y = y.transpose(0, 1) if self.batch_first and batched else y
            return y if batched else y.squeeze(1)

        last = tuple(s.unsqueeze(0) if batched else s for s in state)
        return arrange(output), last if len(last) > 1 else last[0], {name: arrange(y) for name, y in kept.items()}

    def _state_in(self, cell: Cell, x: Tensor, hx: Tensor | State | None, batched: bool) -> State:
        """`hx` as the cell wants it: (B, H) for each state."""
        if hx is None:
            return cell.initial_state(x[0])
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(state) != len(cell.states):
            raise RuntimeError(f"Expected {len(cell.states)} states {cell.states}, got {len(state)}")
        shape = [1, x.size(1), self.hidden_size] if batched else [1, self.hidden_size]
        for name, tensor in zip(cell.states, state, strict=True):
            if list(tensor.shape) != shape:
                raise RuntimeError(f"Expected {name} to have size {shape}, got {list(tensor.shape)}")
        return tuple(tensor[0] if batched else tensor for tensor in state)

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [] if self.bias else ["bias=False"]
        parts += ["batch_first=True"] if self.batch_first else []
        return ", ".join(parts)


class RNN(Recurrent):
    """`RNNCell` over time; the twin of `torch.nn.RNN`. Arguments: `Recurrent`'s, and `nonlinearity`."""

    def __init__(self, input_size: int, hidden_size: int, **options) -> None:
        super().__init__(RNNCell, input_size, hidden_size, **options)


class LSTM(Recurrent):
    """`LSTMCell` over time; the twin of `torch.nn.LSTM`. Arguments: `Recurrent`'s."""

    def __init__(self, input_size: int, hidden_size: int, **options) -> None:
        super().__init__(LSTMCell, input_size, hidden_size, **options)


class GRU(Recurrent):
    """`GRUCell` over time; the twin of `torch.nn.GRU`. Arguments: `Recurrent`'s."""

    def __init__(self, input_size: int, hidden_size: int, **options) -> None:
        super().__init__(GRUCell, input_size, hidden_size, **options)


def from_torch(module: nn.RNNBase | Recurrent) -> Recurrent:
    """Our twin of an `nn.LSTM`, `nn.GRU` or `nn.RNN`, sharing its weights' memory (deepcopy it for weights of its own).

    A `Recurrent` is its own twin.

    Raises:
        ValueError: the module has what this layer lacks: several layers, both directions, projection.
        TypeError: it is none of the three.
    """
    if isinstance(module, Recurrent):
        return module
    twins = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
    if type(module) not in twins:
        raise TypeError(f"expected torch.nn.LSTM, GRU or RNN, got {type(module).__name__}")
    if module.num_layers > 1 or module.bidirectional or module.proj_size:
        raise ValueError("only one layer, one direction and no projection can be converted")
    options = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
    twin = twins[type(module)](
        module.input_size,
        module.hidden_size,
        bias=module.bias,
        batch_first=module.batch_first,
        device="meta",  # the module's own tensors take the place of these
        dtype=module.weight_ih_l0.dtype,
        **options,
    )
    twin.load_state_dict(module.state_dict(), assign=True)
    return twin.train(module.training)
