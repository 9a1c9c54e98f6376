"""One step by torch's own operator, for the cells that torch has: what `torch.nn.LSTMCell` and its like call."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from .cell import Cell, State

Step = Callable[..., Any]
STEPS: dict[type | None, Step] = {
    nn.LSTMCell: torch.lstm_cell,
    nn.GRUCell: torch.gru_cell,
    nn.RNNCell: torch.rnn_tanh_cell,
}
RELU: Step = torch.rnn_relu_cell
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_PLAIN = {Tensor, nn.Parameter}
_METHODS = {"update", "step", "input_map", "hidden_map", "initial_state"}


def torch_step(cell: "Cell", input: Tensor, hx: "Tensor | State | None") -> "Tensor | State | None":
    """`Cell.forward` of a cell that is one of torch's. None if it is not, if a transform is active, or if anything is
    not as it should be, which the usual way will say."""
    operator = STEPS.get((vars(type(cell)).get("torch_modules") or (None,))[0])  # a subclass has other equations
    parameters, several = cell._parameters, len(cell.states) > 1
    if operator is None or cell.proj_size or not _METHODS.isdisjoint(cell.__dict__):
        return None
    if operator is torch.rnn_tanh_cell and cell.nonlinearity == "relu":
        operator = RELU
    batched = input.dim() == 2
    x = input if batched else input.unsqueeze(0)
    if hx is None:
        zeros = x.new_zeros(x.size(0), cell.hidden_size)
        hx = (zeros, zeros) if several else zeros
    else:
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(given) != len(cell.states) or any(s.dim() != input.dim() for s in given):
            return None
        given = given if batched else tuple(s.unsqueeze(0) for s in given)
        hx = given if several else given[0]
    weights = [parameters[n] if n in parameters else cell.__dict__.get(n) for n in WEIGHTS]  # a hook may keep one there
    if weights[0] is None or weights[1] is None or (weights[2] is None) != (weights[3] is None):
        return None
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0:
        return None
    if peek_interpreter_stack() is not None:  # pyright: ignore[reportUnnecessaryComparison]  # outside of all it is None
        return None
    tensors = [w for w in (x, *(hx if several else (hx,)), *weights) if w is not None]
    if not _PLAIN.issuperset(map(type, tensors)):
        return None
    made = operator(x, hx, *weights)
    if batched:
        return made
    return tuple(s.squeeze(0) for s in made) if several else made.squeeze(0)
