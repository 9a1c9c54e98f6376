"""The layers of torch.nn, by their names, and the way between the two."""

import warnings
from collections.abc import Sequence
from inspect import signature

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .cells import Cell, GRUCell, LSTMCell, LSTMVariantCell, RNNCell
from .layer import Recurrent


class LSTM(Recurrent):
    """`LSTMCell` over time; the twin of `torch.nn.LSTM`. Arguments: `Recurrent`'s, without `cell`.

    With any option of `LSTMVariantCell` (peephole, coupled, ...) it is that cell over time.
    """

    mode = "LSTM"
    _returns_autocast_dtype = True  # as torch's LSTM, unlike its GRU

    def __init__(self, input_size: int, hidden_size: int | Sequence[int], *args, **options) -> None:
        variant = options.keys() & signature(LSTMVariantCell).parameters.keys()
        super().__init__(LSTMVariantCell if variant else LSTMCell, input_size, hidden_size, *args, **options)


class GRU(Recurrent):
    """`GRUCell` over time; the twin of `torch.nn.GRU`. Arguments: `Recurrent`'s, without `cell` and `proj_size`."""

    mode = "GRU"

    def __init__(self, input_size: int, hidden_size: int | Sequence[int], *args, **options) -> None:
        _refuse_projection(options)
        super().__init__(GRUCell, input_size, hidden_size, *args, **options)


class RNN(Recurrent):
    """`RNNCell` over time; the twin of `torch.nn.RNN`. Arguments: `Recurrent`'s, without `cell` and `proj_size`.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args,
        **options,
    ) -> None:
        _refuse_projection(options)
        self.nonlinearity, self.mode = nonlinearity, f"RNN_{nonlinearity.upper()}"
        super().__init__(RNNCell, input_size, hidden_size, num_layers, *args, nonlinearity=nonlinearity, **options)

    def _check_rank(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(f"RNN: Expected input to be 2D or 3D, got {input.dim()}D tensor instead")


def _refuse_projection(options: dict) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


def from_torch(module: nn.Module) -> Recurrent | Cell:
    """Our twin of an `nn.LSTM`, `nn.GRU`, `nn.RNN` or of one of their cells.

    The two share the weights' memory: train one and the other follows (`copy.deepcopy` makes it independent). What is
    ours already is returned as it is.

    Raises:
        TypeError: `module` is none of these.
    """
    if isinstance(module, Recurrent | Cell):
        return module
    layers = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
    cells = {nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell, nn.RNNCell: RNNCell}
    kind = type(module).__mro__[1] if is_parametrized(module) else type(module)
    if kind not in layers | cells:
        raise TypeError(f"expected torch.nn.LSTM, GRU or RNN, or one of their cells, got {kind.__name__}")
    names = ["input_size", "hidden_size", "bias", "nonlinearity"]
    if kind in layers:
        names += ["num_layers", "batch_first", "dropout", "bidirectional", *["proj_size"] * bool(module.proj_size)]
    options = {name: getattr(module, name) for name in names if hasattr(module, name)}
    with warnings.catch_warnings(action="ignore"):  # torch has warned of an idle dropout already
        twin = (layers | cells)[kind](**options, device="meta", dtype=next(module.parameters()).dtype)
    tensors = {name: getattr(module, name) for name in twin.state_dict()}  # these take the places of those on meta
    twin.load_state_dict(tensors, assign=True)
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(tensors[name].requires_grad)
    return twin.train(module.training)
