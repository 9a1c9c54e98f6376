"""Weights of Keras' layers, to our layers and back. It reads arrays; Keras itself is not needed."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .cells import Cell, ChoGRUCell, GRUCell, LSTMCell, RNNCell
from .layer import Recurrent
from .layers import GRU, LSTM, RNN, from_torch
from .regularization import Regularization

BEFORE = "GRU with reset_after=False"
LAYERS = {"LSTM": LSTM, "GRU": GRU, "SimpleRNN": RNN, BEFORE: partial(Recurrent, ChoGRUCell)}
CELLS: dict[type[Cell], str] = {LSTMCell: "LSTM", GRUCell: "GRU", RNNCell: "SimpleRNN", ChoGRUCell: BEFORE}
GATES = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,), BEFORE: (1, 0, 2)}
"""Where each of our gates is among Keras', and the other way round: i f c o is our i f g o, z r h our r z n."""
HAD: dict[str, tuple[object, ...]] = {
    **{"activation": ("tanh",), "recurrent_activation": ("sigmoid",), "merge_mode": ("concat",)},
    **dict.fromkeys(("stateful", "unroll", "time_major"), (False,)),
    **dict.fromkeys(("dropout", "recurrent_dropout"), (0,)),
    **{
        f"{which}_{what}": (None,)
        for which in ("kernel", "recurrent", "bias", "activity")
        for what in ("regularizer", "constraint")
    },
}
"""Settings of Keras' layers on which the numbers depend, in training or out of it, and which of them ours have."""


def from_keras(layer: Any, **options: Any) -> LSTM | GRU | RNN | Recurrent:
    """Our layer, with copies of the weights of a `keras.layers.LSTM`, `GRU`, `SimpleRNN` or `Bidirectional` of one.

    It is batch-first, as Keras is, and returns all outputs and the last state: `output[:, -1]` is what Keras returns
    of one direction without `return_sequences`. A GRU with `reset_after=False` becomes a `Recurrent` of `ChoGRUCell`.
    That, Keras' LSTM and its SimpleRNN have one bias where torch has two: it becomes `bias_ih`, and `bias_hh` stays 0
    and frozen, so that training moves their sum as it does in Keras.

    Args:
        layer: that has been built; or its weights, as `layer.get_weights()` lists them: kernel, recurrent kernel and,
            if there is one, bias, and then the same of the reverse direction; or a pair, forward and reverse, of
            either. Weights alone are taken to be of a layer with the default activations.
        options: of our layer, such as `batch_first=False`, or `nonlinearity="relu"` for a SimpleRNN's weights.

    Raises:
        TypeError: it is none of these.
        ValueError: it has a setting that ours does not have, weights of other shapes, or none yet.
    """
    parts = _parts(layer)
    arrays = [[_tensor(w) for w in (_weights(p, reverse=k > 0) if _is_layer(p) else p)] for k, p in enumerate(parts)]
    kinds = [_kind(part, p if _is_layer(p) else None) for part, p in zip(arrays, parts, strict=True)]
    activations = [p.get_config()["activation"] for p in parts if _is_layer(p) and kinds[0] == "SimpleRNN"]
    shapes = [[tuple(w.shape) for w in part] for part in arrays]
    for what, both in (("layers", kinds), ("weights", shapes), ("activations", activations)):
        if both[1:] and both[0] != both[1]:
            raise ValueError(f"both directions should have the same {what}, got {both[0]} and {both[1]}")
    kernel, recurrent, *bias = arrays[0]
    made = LAYERS[kinds[0]](
        kernel.size(0),
        recurrent.size(0),
        bias=bool(bias),
        bidirectional=len(parts) == 2,
        **{"batch_first": True, "dtype": kernel.dtype} | options,
        **({"nonlinearity": activations[0]} if activations else {}),
    )
    for k, part in enumerate(parts):
        cell = made.cell(reverse=k > 0)
        _fill(cell, arrays[k])
        if _is_layer(part) and not part.trainable_weights:
            cell.requires_grad_(False)
    return made


def to_keras(layer: nn.Module) -> list[Any]:
    """A layer's weights as NumPy arrays in Keras' order, for `set_weights` of Keras' layer, or, if this has several
    layers, of a `keras.Sequential` of as many.

    Args:
        layer: LSTM, GRU or RNN, ours or torch's.

    Returns:
        For each layer and direction the kernel, the recurrent kernel and, if there is one, the bias.

    Raises:
        TypeError, ValueError: Keras has no such layer.
    """
    layer = from_torch(layer)
    if not isinstance(layer, Recurrent):
        raise TypeError(f"expected a layer, got a {type(layer).__name__}")
    arrays = []
    for k in range(layer.num_layers * (1 + layer.bidirectional)):
        cell = layer.cell(k // (1 + layer.bidirectional), reverse=bool(k % (1 + layer.bidirectional)))
        lacks = {
            type(cell).__name__: type(cell) not in CELLS,
            "projection": layer.proj_size > 0,
            "residual connections": layer.residual,
            "such regularization": layer.regularization != Regularization(),
        }
        if any(lacks.values()):
            raise ValueError(f"Keras has no {' or '.join(what for what, present in lacks.items() if present)}")
        arrays += [_reordered(cell, cell.weight_ih).T, _reordered(cell, cell.weight_hh).T]
        if layer.bias:
            both = [_reordered(cell, bias) for bias in (cell.bias_ih, cell.bias_hh)]
            arrays.append(torch.stack(both) if isinstance(cell, GRUCell) else sum(both))
    return [array.detach().cpu().contiguous().numpy().copy() for array in arrays]


def _is_layer(part: Any) -> bool:
    return hasattr(part, "get_config") and hasattr(part, "get_weights")


def _parts(layer: Any) -> list[Any]:
    """The forward direction and, if there is one, the reverse: each a layer of Keras or a list of arrays."""
    if _is_layer(layer):
        if not hasattr(layer, "forward_layer"):
            return [layer]
        _check(layer, "Bidirectional", {})
        return [layer.forward_layer, layer.backward_layer]
    if not isinstance(layer, list | tuple):
        raise TypeError(f"expected a layer of Keras or a list of its weights, got {type(layer).__name__}")
    arrays = [hasattr(part, "shape") and not _is_layer(part) for part in layer]
    if len(layer) == 2 and not any(arrays):
        return list(layer)
    if not all(arrays) or len(layer) not in (2, 3, 4, 6):
        raise ValueError(
            f"expected the 2 or 3 arrays of one layer, or twice as many for both directions, got {len(layer)}"
        )
    half = len(layer) // (1 + (len(layer) > 3))
    return [list(layer[k : k + half]) for k in range(0, len(layer), half)]


def _check(layer: Any, kind: str, had: dict[str, tuple[object, ...]]) -> None:
    """Refuse a setting that changes the numbers and that ours do not have."""
    home = next((base.__name__ for base in type(layer).__mro__ if "call" in vars(base)), None)
    if home != kind:
        raise TypeError(f"{type(layer).__name__} has a call of its own, other than that of Keras' {kind}")
    for key, value in layer.get_config().items():
        allowed = (HAD | had).get(key, (value,))
        if value not in allowed:
            shown = " or ".join(f"{key}={one!r}" for one in allowed)
            raise ValueError(f"{kind}: {key}={value!r} has no counterpart here; what has is {shown}")


def _weights(layer: Any, reverse: bool) -> list[Any]:
    """The arrays of one direction of a layer of Keras."""
    kind = next((base.__name__ for base in type(layer).__mro__ if base.__name__ in LAYERS), None)
    if kind is None:
        raise TypeError(f"expected Keras' LSTM, GRU, SimpleRNN or Bidirectional of one, got {type(layer).__name__}")
    had: dict[str, tuple[object, ...]] = {"go_backwards": (reverse,)}
    _check(layer, kind, had | ({"activation": ("tanh", "relu")} if kind == "SimpleRNN" else {}))
    weights = layer.get_weights()
    if not weights:
        raise ValueError(f"{kind}: it has no weights yet; build it, or call it once")
    return weights


def _tensor(array: Any) -> Tensor:
    return array.detach() if isinstance(array, Tensor) else torch.as_tensor(array)


def _kind(arrays: list[Tensor], layer: Any) -> str:
    """Whose weights these are, by their shapes, and by the layer's settings if it is at hand."""
    shapes = [tuple(w.shape) for w in arrays]
    for kind, gates in GATES.items():
        units = shapes[1][0] if len(shapes[1]) == 2 else 0
        rows = len(gates) * units
        one = [(shapes[0][0], rows), (units, rows)]
        if kind == "GRU" and shapes == one:
            if layer is None:
                raise ValueError("GRU: without a bias, weights do not tell reset_after; give the layer, or a bias of "
                                 f"zeros of shape {(2, rows)} if it is true, of {(rows,)} if not")  # fmt: skip
            return kind if layer.get_config()["reset_after"] else BEFORE
        if shapes in (one, [*one, (2, rows) if kind == "GRU" else (rows,)]):
            return kind
    raise ValueError(f"expected the kernel, recurrent kernel and bias of an LSTM, GRU or SimpleRNN, got {shapes}")


def _reordered(cell: Cell, rows: Tensor) -> Tensor:
    """(G * H, ...) with its gates in Keras' order, from ours; or the other way round."""
    gates = list(GATES[CELLS[type(cell)]])
    return rows.unflatten(0, (len(gates), -1))[gates].flatten(0, 1)


@torch.no_grad()
def _fill(cell: Cell, arrays: list[Tensor]) -> None:
    kernel, recurrent, *bias = arrays
    cell.weight_ih.copy_(_reordered(cell, kernel.T))
    cell.weight_hh.copy_(_reordered(cell, recurrent.T))
    for both in bias:
        if isinstance(cell, GRUCell):
            cell.bias_ih.copy_(_reordered(cell, both[0]))
            cell.bias_hh.copy_(_reordered(cell, both[1]))
        else:
            cell.bias_ih.copy_(_reordered(cell, both))
            cell.bias_hh.zero_().requires_grad_(False)
