"""Weights of the sLSTM layers of NX-AI's xlstm package, to ours. It reads tensors; the package itself is not needed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .cells import SLSTMCell
from .layer import Recurrent

GATES = ("fgate", "igate", "zgate", "ogate")
"""Their maps in the order in which their layer hands them to its cell, which calls the first two i and f, so that each
has the other's name."""


@torch.no_grad()
def from_xlstm(layer: nn.Module | Mapping[str, Tensor], **options: Any) -> Recurrent:
    """Our layer of an `SLSTMCell`, with copies of the weights of an `sLSTMLayer` of xlstm.

    It is batch-first, as theirs, and its output is what their layer normalises: their causal convolution before, and
    dropout and norm after it, stay with the model around. If they have a convolution, their gates i and f see its
    result and z and o the input itself: ours then takes both side by side, `torch.cat([silu(conv1d(x)), x], -1)`.

    Args:
        layer: the layer, or its state_dict (of the "vanilla" backend or the "cuda" one).
        options: of our layer, such as `batch_first=False`.

    Raises:
        ValueError: these are no weights of such a layer.
    """
    weights = dict(layer.state_dict() if isinstance(layer, nn.Module) else layer)
    names = [*(f"{gate}.weight" for gate in GATES), "slstm_cell._recurrent_kernel_", "slstm_cell._bias_"]
    if missing := [name for name in names if name not in weights]:
        raise ValueError(f"expected the weights of an sLSTMLayer, but there is no {', '.join(missing)}")
    *maps, recurrent, bias = (weights[name] for name in names)
    heads, size, _ = maps[0].shape
    units, convolved = heads * size, any(name.startswith("conv1d.") for name in weights)
    bias = bias.view(4, units)
    if recurrent.shape == (heads, size, 4 * size):  # of the cuda backend: both are laid out otherwise
        recurrent, bias = recurrent.transpose(1, 2), bias.view(heads, 4, size).transpose(0, 1)
    right = (heads, 4 * size, size)
    if recurrent.shape != right:
        raise ValueError(f"expected a recurrent kernel of shape {right}, got {tuple(recurrent.shape)}")
    options = {"heads": heads, "batch_first": True, "dtype": bias.dtype} | options
    made = Recurrent(SLSTMCell, units * (1 + convolved), units, **options)
    cell = made.cell()
    dense = [torch.block_diag(*matrices) for matrices in maps]
    nothing = torch.zeros_like(dense[0])
    rows = [torch.cat([w, nothing] if k < 2 else [nothing, w], -1) if convolved else w for k, w in enumerate(dense)]
    cell.weight_ih.copy_(torch.cat(rows))
    cell.weight_hh.copy_(recurrent.reshape(cell.weight_hh.shape))
    cell.bias_ih.copy_(bias.reshape(-1))
    return made
