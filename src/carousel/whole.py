"""A whole stack of layers in one call of torch's own kernel, as torch.nn's layers make it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from . import engine, packing
from .regularization import NOTHING

if TYPE_CHECKING:
    from .layer import Recurrent


def run(layer: "Recurrent", stack: engine.Stack, input: Tensor | PackedSequence, hx: Any, lengths: Any) -> Any:
    """`Recurrent.forward` for a layer that torch has, as such a stack. None if torch's kernel is not the engine of this
    call, or if anything is not as it should be, which the usual way will say."""
    if layer._norms is not None or layer.residual or (layer.regularization, layer.detach) != NOTHING:
        return None
    if not torch.compiler.is_dynamo_compiling():
        return _run(layer, stack, input, hx, lengths)
    # On a CPU the kernel that is compiled is ours; elsewhere it is torch's, as with torch.nn between two graphs.
    on_cpu = getattr(layer, stack.names[0]).is_cpu
    if layer.backend == "torch" or (layer.backend == "auto" and not on_cpu and not engine.exporting()):
        return _outside(layer, stack, input, hx, lengths)
    return None


def _run(layer: "Recurrent", stack: engine.Stack, input: Any, hx: Any, lengths: Any) -> Any:
    packed, dim = isinstance(input, PackedSequence), 0 if layer.batch_first else 1
    x = input.data if packed else input
    batched = packed or x.dim() == 3
    if packed:
        steps, batch = len(input.batch_sizes), int(input.batch_sizes[0])
    elif batched or x.dim() == 2:
        x = x if batched else x.unsqueeze(dim)
        steps, batch = x.size(1 - dim), x.size(dim)
    else:
        return None
    if (packed and lengths is not None) or ((lengths is not None or layer.proj_size) and engine.exporting()):
        return None
    function, names, sizes = stack
    parameters, loops, ragged = layer._parameters, layer._loops, packed or lengths is not None
    weights: list[Any] = [parameters[n] if n in parameters else getattr(layer, n) for n in names]  # or parametrized
    state: Any = () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
    slow = ragged or bool(layer.proj_size)
    if not engine.whole(loops, function, x, steps, batch, (*weights, *state), slow, layer.backend):
        return None
    if x.size(-1) != layer.input_size:
        return None
    for t in (weights[0], *state):
        if t.dtype is not x.dtype and not engine.autocasts(x):
            return None
    shapes = [(len(loops), batch, size) for size in sizes]
    if hx is None:
        state = [x.new_zeros(shape) for shape in shapes]
    else:
        state = state if batched else [s.unsqueeze(1) for s in state if s.dim() == 2]
        if [s.shape for s in state] != shapes:
            return None
    if lengths is not None:
        lengths = packing.check_lengths(lengths, x.transpose(0, 1) if layer.batch_first else x)
        input = pack_padded_sequence(x, lengths.cpu(), layer.batch_first, enforce_sorted=False)
        x = input.data
    options = (len(loops) // (1 + layer.bidirectional), layer.dropout, layer.training, layer.bidirectional)
    if ragged:
        state = layer.permute_hidden(state, input.sorted_indices)
        out, *last = engine.stack(function, x, state, weights, *options, batch_sizes=input.batch_sizes)
        last = layer.permute_hidden(last, input.unsorted_indices)
        out = input._replace(data=out)
        if lengths is not None:
            out, _ = pad_packed_sequence(out, layer.batch_first, total_length=steps)
    else:
        out, *last = engine.stack(function, x, state, weights, *options, layer.batch_first)
    if not batched:
        out, last = out.squeeze(dim), [s.squeeze(1) for s in last]
    return out, tuple(last) if len(last) > 1 else last[0]


_outside = torch._disable_dynamo(_run)  # pyright: ignore[reportPrivateImportUsage]
