r"""How much of the error reaches each earlier state: :math:`\|\partial L/\partial h_{T-k}\|` against the lag k."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..cells.cell import State
from ..engine import Norms
from ..layer import Recurrent
from .runs import Run, observe

LN10 = math.log(10)


@dataclass(frozen=True)
class Flow:
    """The gradient with respect to every state of one layer and direction, as decimal logarithms of norms.

    `log10_norm[name]` is (T, B): the norm over the hidden units, for the state `name` ("h", "c", ...) at lag
    0 to T-1, for each sequence of the batch; -inf where the gradient is exactly zero. Lag 0 is the step that is run
    last: in the reverse direction the first of the sequence, and among padded sequences the end of the longest.
    """

    log10_norm: dict[str, Tensor]

    def rms(self) -> dict[str, Tensor]:
        """The root mean square over the batch of each norm, as a decimal logarithm: (T,) for each state."""
        return {
            name: (torch.logsumexp(2 * LN10 * norm, 1) - math.log(norm.size(1))) / (2 * LN10)
            for name, norm in self.log10_norm.items()
        }

    def mean(self) -> dict[str, Tensor]:
        """The mean over the batch of each logarithm, that is of the geometric mean: (T,) for each state."""
        return {name: norm.mean(1) for name, norm in self.log10_norm.items()}

    def quantiles(self, *shares: float) -> dict[str, Tensor]:
        """The quantiles over the batch of each logarithm: (len(shares), T) for each state; nan beside a zero gradient.

        Raises:
            RuntimeError: a share is not in [0, 1].
        """
        return {
            name: norm.quantile(torch.tensor(shares, dtype=norm.dtype, device=norm.device), 1)
            for name, norm in self.log10_norm.items()
        }


def memory_length(log10_norm: Tensor, share: float = 0.01) -> int:
    """The largest lag at which a curve (T,) of `Flow.rms` is above `share` of its value at lag 0.

    T-1 means that it never fell below within the sequence; a curve that is -inf or nan at lag 0 has length 0.
    """
    above = log10_norm >= log10_norm[0] + math.log10(share)
    return int(above.nonzero().max()) if log10_norm[0].isfinite() and above.any() else 0


class Rate(NamedTuple):
    """A factor per step, with its 95% confidence interval."""

    rate: float
    low: float
    high: float


def decay_rate(log10_norm: Tensor, first: int = 0, last: int | None = None) -> Rate:
    """The factor per step of the norms (T, B) of `Flow.log10_norm`, fitted over the lags `first` to `last`.

    A straight line is fitted to each sequence's logarithms by least squares. The interval is that of the mean of the
    slopes, 1.96 standard errors over the B sequences, which is too narrow for fewer than some 30. They see the same
    weights: it tells how sure the rate of this layer is, not that of its initialisation. With one sequence it is nan.

    Raises:
        ValueError: the lags are not two or more of those that there are, or a gradient in between is zero.
    """
    lags = log10_norm.size(0)
    last = lags - 1 if last is None else last
    if not 0 <= first < last < lags:
        raise ValueError(f"first and last must be lags with 0 <= first < last <= {lags - 1}, got {first} and {last}")
    curves = log10_norm[first : last + 1].double()
    if not curves.isfinite().all():
        raise ValueError("the gradient is zero, or none at all, at some of these lags")
    lag = torch.arange(first, last + 1, dtype=torch.float64, device=curves.device)
    lag -= lag.mean()
    slopes = (lag @ curves) / lag.square().sum()  # (B,)
    error = 1.96 * slopes.std() / math.sqrt(len(slopes)) if len(slopes) > 1 else math.nan
    return Rate(*(10 ** float(slopes.mean() + side * error) for side in (0, -1, 1)))


def flow(layer: nn.Module, loss: Callable[[], Tensor]) -> list[Flow]:
    r"""Measure the gradient's way back through `layer`.

    The derivatives are total ones: of h_t through the output and all later steps; of c_t through h_t as well.
    They are renormalised on every step back, each sequence by itself, so a gradient of 1e-1000 is a number.

    `retain_grad()` on the output cannot measure this: for a fused kernel it yields only the *direct* derivative
    with respect to that output. So the direct ones are taken from autograd, and the recursion is walked back with
    the cell, step by step; an `nn.LSTM`, `nn.GRU` or `nn.RNN` is measured through its twin with the same weights.

    Args:
        layer: a `Recurrent` layer, or one of torch.nn that `from_torch` takes.
        loss: runs the model that contains `layer`, once, and returns the scalar loss. A loss that mixes the sequences
            of the batch other than by sum or mean is attributed to each by its own direct derivatives.

    Returns:
        One `Flow` for each layer and direction, in the order of torch's states.

    Raises:
        TypeError: `layer` is no such layer.
        ValueError: the model ran the layer not exactly once, or does not depend on it, or nothing requires a gradient.
    """
    return [Flow(walk_back(run, *direct)) for run, *direct in arrivals(layer, loss)]


def arrivals(layer: nn.Module, loss: Callable[[], Tensor], attached: bool = False) -> list[tuple[Run, Tensor, State]]:
    """What a loss gives directly to each layer and direction: its run, the gradient with respect to its outputs
    (T, B, H), in the order of its steps, and with respect to each last state (B, H). If `attached`, then without what
    the layer detaches in training.

    Raises:
        ValueError: as `flow`.
    """
    with torch.enable_grad():
        value, call = observe(layer, loss)
    if not value.requires_grad:
        raise ValueError("the loss does not depend on anything that requires a gradient")
    arriving = torch.autograd.grad(value, _leaves(call.result), allow_unused=True, materialize_grads=True)
    if not any(gradient.any() for gradient in arriving):
        raise ValueError("the loss does not depend on the layer")

    # Once more: what leaves a loop is cloned on its way to the layers above, for the gradient of the clones is what
    # those and the loss give directly, without what comes back through the recurrence.
    clones = []

    def clone(loop, inputs, result):
        y, last, kept = result
        y, last = y.clone(), tuple(s.clone() for s in last)
        clones.append((y, *last))
        return y, last, kept

    with torch.enable_grad():
        again, runs = call.again(clone, attached)
    nodes = [node for nodes in clones for node in nodes]
    direct = torch.autograd.grad(_leaves(again), nodes, arriving, allow_unused=True, materialize_grads=True)
    found = []
    for run in runs:
        (outputs, *lasts), direct = direct[: 1 + len(run.state)], direct[1 + len(run.state) :]
        found.append((run, outputs, tuple(lasts)))
    return found


@contextmanager
def watch(layer: Recurrent) -> Iterator[list[Flow]]:
    r"""Measure the gradient's way back in passing, in the backward passes that a training step does anyway.

    For use around forward and backward: the list that it gives holds, once the context is left, one `Flow` for each
    layer and direction of each forward pass that a backward pass came to; under activation checkpointing too. The
    squared norms of several backward passes add up, which for losses of different sequences is exact. Unlike `flow` it
    takes the numbers as they are: what underflows is zero.

    The norms come out of the adjoint's own loop, at a cost of a few percent; see `scripts/bench.py`. A compiled model
    runs the layer outside of its graphs meanwhile, and cannot with `fullgraph=True`. A copy of the layer that is made
    meanwhile is not watched.

    Raises:
        TypeError: it is not a layer of ours; take `from_torch(layer)`, or `flow`.
        ValueError: the layer is being watched already.
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(f"expected a carousel.Recurrent layer, got {type(layer).__name__}; see from_torch")
    if layer._norms is not None:
        raise ValueError("the layer is being watched already")
    flows: list[Flow] = []
    layer._norms = runs = []
    try:
        yield flows
    finally:
        layer._norms = None
    passes: list[list[Norms]] = []
    for norms in runs:
        if norms.loop is layer._loops[0][1]:
            passes.append([])
        passes[-1].append(norms)
    for norms in itertools.chain(*(each for each in passes if any(n.total is not None for n in each))):
        total = torch.zeros(norms.shape, dtype=torch.float64) if norms.total is None else norms.total
        curves = total.flip(0).log10().unbind(-1)
        flows.append(Flow({name: curve / 2 for name, curve in zip(norms.loop.cell.states, curves, strict=True)}))


def _leaves(nested) -> list[Tensor]:
    """The tensors of a layer's result: (output, state), of whatever form."""
    if isinstance(nested, PackedSequence):
        return [nested.data]
    return [nested] if isinstance(nested, Tensor) else [leaf for part in nested for leaf in _leaves(part)]


def _steps(run: Run) -> list[tuple[State, State, State]]:
    """The run with the graph cut between the steps: the state before, what the cell makes of it, the state after."""
    steps, state = [], run.state
    with torch.enable_grad():
        for t in range(len(run.rows)):
            before = tuple(s.detach().requires_grad_() for s in state)
            new, state, _ = run.step(t, before)
            steps.append((before, new, state))
    return steps


def walk_back(run: Run, direct: Tensor, arrival: State) -> dict[str, Tensor]:
    """The recursion, from the last step to the first: `Flow.log10_norm`.

    `direct` (T, B, H) is what the loss gives each output, `arrival` (B, H) what it gives each last state; for every
    sequence the true gradient is exp(`log_scale`) times what is carried.
    """
    names, carried = run.cell.states, tuple(arrival)
    log_scale = torch.zeros_like(direct[0, :, :1])  # (B, 1)
    curves: dict[str, list[Tensor]] = {name: [] for name in names}
    for (before, new, after), arriving in zip(reversed(_steps(run)), direct.flip(0).unbind(0), strict=True):
        # Bring both to the scale of the larger, then add what the loss gives this output directly.
        norm = torch.cat(carried, -1).norm(dim=-1, keepdim=True)
        here = arriving.norm(dim=-1, keepdim=True)
        larger = torch.maximum(log_scale + norm.log(), here.log())
        safe = torch.where(larger.isinf(), 0.0, larger)
        carried = tuple(a / torch.where(norm == 0, 1.0, norm) * (log_scale + norm.log() - safe).exp() for a in carried)
        direction = arriving / torch.where(here == 0, 1.0, here)
        carried = (carried[0] + direction * (here.log() - safe).exp(), *carried[1:])
        log_scale = safe
        gradients = torch.autograd.grad(after, (*before, *new), carried, allow_unused=True, materialize_grads=True)
        carried, totals = gradients[: len(names)], gradients[len(names) :]
        for name, total in zip(names, totals, strict=True):
            curves[name].append((log_scale[:, 0] + total.norm(dim=-1).log()) / LN10)
    return {name: torch.stack(curve) for name, curve in curves.items()}
