"""torch's own kernels (ATen's and oneDNN's on a CPU, cuDNN's, those of MPS), for the cells that torch has."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ..cells.cell import Cell, State
from .autocast import autocasts

if TYPE_CHECKING:
    from .eager import Loop, Masks

DEVICES = ("cpu", "cuda", "mps")
WEIGHTS = ("weight_ih", "weight_hh")
BIASES = ("bias_ih", "bias_hh")
LISTS = {(*WEIGHTS, *biases, *projection) for biases in (BIASES, ()) for projection in (("weight_hr",), ())}
"""A layer's weights as these kernels take them; the order is that of `Cell.shapes`."""
_METHODS = {"update", "step", "input_map", "hidden_map", "project", "forward", "initial_state"}


class Stack(NamedTuple):
    """What of a layer torch's kernels need to know, for one call of all its loops."""

    function: str
    """See `function`."""
    names: tuple[str, ...]
    """Of the layer's weights, in the order of `LISTS`, layer by layer and direction by direction."""
    sizes: tuple[int, ...]
    """Features of each state."""


def function(cell: Cell, names: tuple[str, ...]) -> str:
    """The name of torch's function for a layer of a cell with these tensors: "lstm", "gru", "rnn_tanh" or "rnn_relu".

    It is "" if torch has no such cell, or this one is not as its class.
    """
    layer = (vars(type(cell)).get("torch_modules") or (None, None))[1]  # a subclass has other equations
    if layer is None or names not in LISTS or not _METHODS.isdisjoint(cell.__dict__):
        return ""
    return f"rnn_{cell.nonlinearity}" if layer is nn.RNN else {nn.LSTM: "lstm", nn.GRU: "gru"}.get(layer, "")


def exporting() -> bool:
    """Whether a program is made that has to consist of torch's own operations."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def unfit(function: str, x: Tensor) -> str:
    """Why torch's function is not for this input, or ""."""
    if x.is_cpu:
        autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
        return "torch's LSTM refuses float16 in autocast" if function == "lstm" and autocast is torch.float16 else ""
    return "" if x.device.type in DEVICES else f"torch's kernels are not used on {x.device.type}"


def lacks(loop: "Loop", tensors: dict[str, Tensor], x: Tensor, state: State, masks: "Masks") -> str:
    """What of a run torch's kernels can't do; "" if they can do all of it."""
    if not loop.function:
        return f"torch has no kernel for {type(loop.cell).__name__}"
    if reason := unfit(loop.function, x):
        return reason
    if exporting() and loop.cell.proj_size:
        return "ONNX has no LSTM with a projection"
    asked = {
        "reset": masks.reset is not None,
        "recurrent dropout": masks.recurrent is not None,
        "zoneout, nor lengths of padded input": bool(masks.update_mask),
        "detached gradients": masks.detach_gates is not False or masks.detach_carousel is not False,
    }
    if missing := [what for what, wanted in asked.items() if wanted]:
        return f"torch's kernels have no {missing[0]}"
    if not autocasts(x):
        for t in (*state, *tensors.values()):
            if t.dtype != x.dtype:
                return f"torch's kernels take tensors of one type, not {x.dtype} and {t.dtype}"
    shapes = [(x.size(1), n) for n in loop.cell.state_sizes]
    if [tuple(s.shape) for s in state] != shapes:
        return f"the states should have shapes {shapes}"
    return ""


def run(loop: "Loop", tensors: dict[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    """As `Loop.forward`, without masks: x (T, B, I), each state (B, H)."""
    weights = [tensors[name] for name in loop.names]
    hx = tuple(s.unsqueeze(0) for s in state)
    out, *last = stack(loop.function, x, hx, weights)
    return out, tuple(s.squeeze(0) for s in last)


def stack(
    function: str,
    x: Tensor,
    hx: Sequence[Tensor],
    weights: Sequence[Tensor],
    layers: int = 1,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Layers and directions in one call, as torch.nn's layers make it.

    Args:
        function: see `function`.
        x: (T, B, I), (B, T, I) with `batch_first`, or the data of a PackedSequence with these `batch_sizes`.
        hx: (L * D, B, H) for each state.
        weights: of all layers and directions, in the order of `LISTS`.
        layers, dropout, training, bidirectional, batch_first: as torch.nn's.

    Returns:
        The output, and the last states.
    """
    biased = len(weights) // (layers * (1 + bidirectional)) > 3
    if x.is_cuda and not training and torch.is_grad_enabled():
        training, dropout = True, 0.0  # cuDNN can't go back through a run in evaluation, which needs no other numbers
    state = hx[0] if len(hx) == 1 else hx
    options = (biased, layers, dropout, training, bidirectional)
    if batch_sizes is None:
        return getattr(torch, function)(x, state, weights, *options, batch_first)
    return getattr(torch, function)(x, batch_sizes, state, weights, *options)
