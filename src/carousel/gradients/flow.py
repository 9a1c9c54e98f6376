r"""How much of the error reaches each earlier state: :math:`\|\partial L/\partial h_{T-k}\|` against the lag k."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..cells.cell import State
from ..layer import Recurrent, from_torch

LN10 = math.log(10)


@dataclass(frozen=True)
class Flow:
    """The gradient with respect to every state, as decimal logarithms of norms.

    `log10_norm[name]` is (T, B): the norm over the hidden units, for the state `name` ("h", "c", ...) at lag
    0 to T-1, lag 0 being the last step, for each sequence of the batch; -inf where the gradient is exactly zero.
    """

    log10_norm: dict[str, Tensor]

    def rms(self) -> dict[str, Tensor]:
        """The root mean square over the batch of each norm, as a decimal logarithm: (T,) for each state."""
        return {
            name: (torch.logsumexp(2 * LN10 * norm, 1) - math.log(norm.size(1))) / (2 * LN10)
            for name, norm in self.log10_norm.items()
        }


def memory_length(log10_norm: Tensor, share: float = 0.01) -> int:
    """The largest lag at which a curve (T,) of `Flow.rms` is above `share` of its value at lag 0.

    T-1 means that it never fell below within the sequence.
    """
    above = log10_norm >= log10_norm[0] + math.log10(share)
    return int(above.nonzero().max()) if above.any() else 0


def flow(layer: nn.Module, loss: Callable[[], Tensor]) -> Flow:
    r"""Measure the gradient's way back through `layer`.

    The derivatives are total ones: of h_t through the output and all later steps; of c_t through h_t as well.
    They are renormalised on every step back, each sequence by itself, so a gradient of 1e-1000 is a number.

    `retain_grad()` on the output cannot measure this: for a fused kernel it yields only the *direct* derivative
    with respect to that output. So the direct ones are taken from autograd, and the recursion is walked back with
    the cell, step by step; an `nn.LSTM`, `nn.GRU` or `nn.RNN` is measured through its twin with the same weights.

    Args:
        layer: a `Recurrent` layer with one batch of sequences as input, or a torch.nn one that `from_torch` takes.
        loss: runs the model that contains `layer`, once, and returns the scalar loss. A loss that mixes the sequences
            of the batch other than by sum or mean is attributed to each by its own direct derivatives.

    Raises:
        ValueError: the loss ran the layer not exactly once, on no batch, or does not depend on it; or the layer has
            several layers or directions.
    """
    calls = []

    def record(_, args, kwargs, result):
        calls.append((args, kwargs, result))

    handle = layer.register_forward_hook(record, with_kwargs=True)
    try:
        with torch.enable_grad():
            value = loss()
    finally:
        handle.remove()
    if len(calls) != 1:
        raise ValueError(f"the loss must run the layer exactly once, not {len(calls)} times")
    args, kwargs, (output, last) = calls[0]
    twin = from_torch(layer)
    if twin.num_layers > 1 or twin.bidirectional or kwargs.keys() - {"hx"}:
        raise ValueError("only one layer in one direction can be measured, without lengths or resets")
    if not isinstance(output, Tensor) or output.dim() != 3:
        raise ValueError("the layer must be run on a batch of sequences, not on a single or a packed one")
    last = (last,) if isinstance(last, Tensor) else last
    direct, *direct_last = torch.autograd.grad(value, (output, *last), allow_unused=True)
    if direct is None and all(d is None for d in direct_last):
        raise ValueError("the loss does not depend on the layer")

    direct = torch.zeros_like(output) if direct is None else direct
    if twin.batch_first:
        direct = direct.transpose(0, 1)
    arrival = [torch.zeros_like(s) if d is None else d for s, d in zip(last, direct_last, strict=True)]
    steps = _steps(twin, *args, **kwargs)
    return Flow(_walk_back(twin.cell().states, steps, direct, tuple(a[0] for a in arrival)))


def _steps(layer: Recurrent, input: Tensor, hx: Tensor | State | None = None) -> list[tuple[State, State]]:
    """Run the cell with the graph cut between the steps: (state before, state after) for each step."""
    cell = layer.cell()
    x = input.detach().transpose(0, 1) if layer.batch_first else input.detach()  # (T, B, I)
    state = cell.initial_state(x[0]) if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
    state = state if hx is None else tuple(s[0] for s in state)
    steps = []
    with torch.enable_grad():
        for wx in cell.input_map(x).detach().unbind(0):
            before = tuple(s.detach().requires_grad_() for s in state)
            state, _ = cell.step(wx, before)
            steps.append((before, state))
    return steps


def _walk_back(
    names: tuple[str, ...], steps: list[tuple[State, State]], direct: Tensor, arrival: State
) -> dict[str, Tensor]:
    """The recursion, from the last step to the first.

    `direct` (T, B, H) is what the loss gives each output, `arrival` (B, H) what it gives each last state; for every
    sequence the true gradient is exp(`log_scale`) times what is carried.
    """
    carried = tuple(a.clone() for a in arrival)
    log_scale = torch.full_like(direct[0, :, :1], -torch.inf)  # (B, 1)
    log_scale[sum(a.abs().sum(-1) for a in arrival) > 0] = 0.0
    curves: dict[str, list[Tensor]] = {name: [] for name in names}
    for (before, after), arriving in zip(reversed(steps), direct.flip(0).unbind(0), strict=True):
        # Bring both to the scale of the larger, then add what the loss gives this output directly.
        norm = torch.cat(carried, -1).norm(dim=-1, keepdim=True)
        here = arriving.norm(dim=-1, keepdim=True)
        larger = torch.maximum(log_scale + norm.log(), here.log())
        safe = torch.where(larger.isinf(), 0.0, larger)
        carried = tuple(a * (log_scale - safe).exp() for a in carried)
        direction = arriving / torch.where(here == 0, 1.0, here)
        carried = (carried[0] + direction * (here.log() - safe).exp(), *carried[1:])
        log_scale = larger
        gradients = torch.autograd.grad(after, (*before, *after), carried, allow_unused=True, materialize_grads=True)
        carried, totals = gradients[: len(names)], gradients[len(names) :]
        for name, total in zip(names, totals, strict=True):
            curves[name].append((log_scale[:, 0] + total.norm(dim=-1).log()) / LN10)
    return {name: torch.stack(curve) for name, curve in curves.items()}
