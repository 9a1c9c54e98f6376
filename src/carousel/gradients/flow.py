r"""How much of the error reaches each earlier state: :math:`\|\partial L/\partial h_{T-k}\|` against the lag k."""

import itertools
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..engine import Norms
from ..layer import Recurrent
from .walk import LN10, walk


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
    r"""Measure the gradient as it goes back through `layer`.

    The derivatives are total ones: of h_t through the output and all later steps; of c_t through h_t as well; in a
    stack through all layers above. Each step of each sequence has a scale of its own, in every layer, so a gradient of
    1e-1000 is a number, and the loss may be of any scale. What lies between the layer and the loss is
    differentiated by autograd, in the numbers of the model: what underflows there, beside the largest, is zero.

    `retain_grad()` on the output cannot measure this: for a fused kernel it yields only the *direct* derivative
    with respect to that output. So the direct ones are taken from autograd, and the recursion is walked back with
    the cell, step by step; an `nn.LSTM`, `nn.GRU` or `nn.RNN` is measured through ours with the same weights.

    The layer is taken as it is in this one run: with the weights in force (of a `torch.func.functional_call`,
    parametrised, pruned), the input after hooks, frozen or not. A layer in half precision or under autocast is walked
    back in float32, what was compiled as it was written. Random numbers and buffers are put back at the end.

    Args:
        layer: a `Recurrent` layer, or one of torch.nn that `from_torch` takes.
        loss: runs the model that contains `layer`, once, and returns the scalar loss. A loss that mixes the sequences
            of the batch other than by sum or mean is attributed to each by its own direct derivatives.

    Returns:
        One `Flow` for each layer and direction, in the order of torch's states, in float64.

    Raises:
        TypeError: `layer` is no such layer.
        ValueError: the model ran the layer not exactly once, or does not depend on it, or ran it without gradients; or
            it or what is above it runs in a checkpoint with `use_reentrant=True`.
    """
    return [Flow(curves) for (curves,) in walk(layer, loss)]


@contextmanager
def watch(layer: Recurrent) -> Generator[list[Flow]]:
    r"""Measure the gradient in passing, in the backward passes that a training step does anyway.

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
