"""The layers of torch.nn, by their names, and the conversion from there."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .cells import Cell, GRUCell, LSTMCell, LSTMVariantCell, RNNCell
from .cells.cell import Initializer
from .cells.module import REFRESHERS
from .layer import Recurrent
from .regularization import Detach, Regularization


class LSTM(Recurrent):
    """`LSTMCell` over time; the counterpart of `torch.nn.LSTM`. Arguments: `Recurrent`'s, without `cell`.

    With any option of `LSTMVariantCell` (peephole, coupled, ...) it is that cell over time.
    """

    mode = "LSTM"
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args  # pyright: ignore[reportAssignmentType]  # nor do torch's two agree

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        without: str | Iterable[str] = (),
        full_gate_recurrence: bool = False,
        init: Initializer | Iterable[Initializer] = (),
        residual: bool = False,
        regularization: Regularization | None = None,
        detach: Detach | None = None,
        backend: str = "auto",
        **unknown: Any,
    ) -> None:
        variant = {
            "peephole": peephole,
            "coupled": coupled,
            "layer_norm": layer_norm,
            "without": without,
            "full_gate_recurrence": full_gate_recurrence,
        }
        super().__init__(
            LSTMVariantCell if any(variant.values()) else LSTMCell,
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype),
            **{name: value for name, value in variant.items() if value},
            **{"init": init, "residual": residual, "regularization": regularization, "detach": detach},
            backend=backend,
            **unknown,
        )


class GRU(Recurrent):
    """`GRUCell` over time; the counterpart of `torch.nn.GRU`. Arguments: `Recurrent`'s, without `cell` and
    `proj_size`."""

    mode = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        init: Initializer | Iterable[Initializer] = (),
        residual: bool = False,
        regularization: Regularization | None = None,
        detach: Detach | None = None,
        backend: str = "auto",
        **unknown: Any,
    ) -> None:
        _refuse_projection(unknown)
        super().__init__(
            GRUCell,
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype),
            **{"init": init, "residual": residual, "regularization": regularization, "detach": detach},
            backend=backend,
            **unknown,
        )


class RNN(Recurrent):
    """`RNNCell` over time; the counterpart of `torch.nn.RNN`. Arguments: `Recurrent`'s, without `cell` and `proj_size`.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        init: Initializer | Iterable[Initializer] = (),
        residual: bool = False,
        regularization: Regularization | None = None,
        detach: Detach | None = None,
        backend: str = "auto",
        **unknown: Any,
    ) -> None:
        _refuse_projection(unknown)
        self.nonlinearity, self.mode = nonlinearity, f"RNN_{nonlinearity.upper()}"
        super().__init__(
            RNNCell,
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype),
            **{"init": init, "residual": residual, "regularization": regularization, "detach": detach},
            backend=backend,
            nonlinearity=nonlinearity,
            **unknown,
        )

    def _check_rank(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(f"RNN: Expected input to be 2D or 3D, got {input.dim()}D tensor instead")


def _refuse_projection(options: dict[str, Any]) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


def from_torch(module: nn.Module) -> Recurrent | Cell:
    """Our counterpart of an `nn.LSTM`, `nn.GRU`, `nn.RNN` or of one of their cells.

    The two have the same parameters, tied, frozen, parametrized or refreshed by a hook as they are: train one and the
    other follows (`copy.deepcopy` makes it independent). What is ours already is returned as it is.

    Raises:
        TypeError: `module` is none of these, or a subclass with a `forward` of its own.
    """
    if isinstance(module, Recurrent | Cell):
        return module
    layers = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
    cells = {nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell, nn.RNNCell: RNNCell}
    kind = next((kind for kind in layers | cells if isinstance(module, kind)), None)
    if kind is None:
        name = type(module).__name__
        raise TypeError(f"expected torch.nn.LSTM, GRU or RNN, or one of their cells, got {name}")
    if getattr(module.forward, "__func__", None) is not kind.forward:
        raise TypeError(f"{type(module).__name__} has another forward than torch.nn.{kind.__name__}, which it extends")
    names = ["input_size", "hidden_size", "bias", "nonlinearity"]
    if kind in layers:
        names += ["num_layers", "batch_first", "dropout", "bidirectional", *["proj_size"] * bool(module.proj_size)]
    options = {name: getattr(module, name) for name in names if hasattr(module, name)}
    with warnings.catch_warnings(action="ignore"):  # torch has warned of an idle dropout already
        ours = (layers | cells)[kind](**options, device="meta").train(module.training)
    _share(module, ours)
    return ours


def _share(module: nn.Module, ours: nn.Module) -> None:
    """Give `ours` the module's own parameters, with what computes its weights from them."""
    weights = list(ours.state_dict())
    for kind in ("_parameters", "_buffers", "_modules"):
        setattr(ours, kind, dict(getattr(module, kind)))
    if parametrize.is_parametrized(module):
        parametrize._inject_new_class(ours)
        for name in module.get_submodule("parametrizations")._modules:
            parametrize._inject_property(ours, name)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, REFRESHERS):
            ours.register_forward_pre_hook(hook)
    for name in weights:
        if name in vars(module):  # a hook keeps it there
            setattr(ours, name, vars(module)[name])
