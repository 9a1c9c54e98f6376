r"""What a stretch of time does to a perturbation: the singular values of
:math:`M_k = \partial s_T/\partial s_{T-k}`, the product of the last k steps' Jacobians."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .chain import Chain, growth
from .runs import runs

DIGITS = 10
"""How far from the largest singular value of a product in float64, in decades, the others are still told."""
SINGULAR = 1e15
"""The condition from which on a step's Jacobian has no inverse in float64."""


@dataclass(frozen=True)
class Jacobian:
    """The singular values of the products of step Jacobians in one layer and direction, as decimal logarithms.

    `log10_singular` is (window, B, n), for the lags 1 to `window`, for each sequence of the batch, in descending
    order; n is the size of all states together, 2H for an LSTM. All values within ten decades of the largest or of the
    smallest are told, to 1e-5 decades. Those between are nan; -inf is zero, and if a product is singular its smallest
    is -inf.
    """

    log10_singular: Tensor

    @property
    def log10_condition(self) -> Tensor:
        """The largest singular value over the smallest: (window, B), inf if a step is singular."""
        largest, smallest = self.log10_singular[..., 0], self.log10_singular[..., -1]
        return torch.where(smallest == -torch.inf, torch.inf, largest - smallest)


def jacobian(layer: nn.Module, model: Callable[[], Any], window: int | None = None) -> list[Jacobian]:
    r"""Measure what the last k steps did to a perturbation of the state, for every lag k up to `window`.

    M_k is the product whose norm bounds the gradient (Pascanu, Mikolov & Bengio 2013, section 2.1, eq. 5); its
    singular values say how each direction fares, and are all one under dynamical isometry (Saxe et al. 2014;
    Pennington et al. 2017). The state is the full one, and a step includes what masks do to it: a step of padding
    is the identity. Lag 1 is the step that is run last, see `Flow`.

    The products and those of the inverse Jacobians are carried side by side, in float64 and renormalised at every
    step. The first give the largest singular values, the others the smallest, so a condition of 1e1000 is a number.

    It costs the Jacobian of each step in full, n tangents a sequence, and two singular value decompositions a lag:
    for large states see `largest_singular_values`.

    Args:
        layer: a `Recurrent` layer, or one of torch.nn that `from_torch` takes.
        model: runs the model that contains `layer`, once; what it returns does not matter.
        window: the largest lag; all steps by default.

    Returns:
        One `Jacobian` for each layer and direction, in the order of torch's states.

    Raises:
        ValueError: the model ran the layer not exactly once, a state is not finite, or `window` is not between 1 and
            the number of steps.
    """
    with runs(layer, model) as found:
        chains = [Chain(run) for run in found]
        window = _check_window(window, chains)
        return [Jacobian(_singular_values(chain, window)) for chain in chains]


def largest_singular_values(
    layer: nn.Module, model: Callable[[], Any], count: int = 1, window: int | None = None
) -> list[Tensor]:
    """The first columns of the last row of `Jacobian.log10_singular`, without a Jacobian being formed.

    By subspace iteration on M^T M with eight directions to spare, orthonormalised at every step, there and back, until
    no value changes by more than 1e-6 decades, or 100 times; that is about its error in the first case.

    Args:
        layer, model: as for `jacobian`.
        count: how many, from the largest on.
        window: the number of steps, up to the last; all by default.

    Returns:
        (B, count) for each layer and direction, in descending order, as decimal logarithms.

    Raises:
        ValueError: as `jacobian`, or `count` is not between 1 and the size of the state.
    """
    with runs(layer, model) as found:
        chains = [Chain(run) for run in found]
        window = _check_window(window, chains)
        n = min(sum(chain.sizes) for chain in chains)
        if count not in range(1, n + 1):
            raise ValueError(f"count must be between 1 and {n}, the size of the state, got {count}")
        return [_largest(chain, count, window) for chain in chains]


def _check_window(window: int | None, chains: list[Chain]) -> int:
    steps = len(chains[0])
    if window is not None and window not in range(1, steps + 1):
        raise ValueError(f"window must be between 1 and {steps}, the number of steps, got {window}")
    return window or steps


def _singular_values(chain: Chain, window: int) -> Tensor:
    s = chain.states[0]
    eye = torch.diag_embed(torch.ones_like(s))
    pair, scale = torch.stack([eye, eye]), 0.0  # M and its inverse, (2, B, n, n), times 10**`scale`
    singular = s.new_zeros(len(s), 1, dtype=torch.bool)
    none = torch.full_like(s, torch.nan)  # what is known of the smallest where there is no inverse
    none[:, -1] = -torch.inf
    spectra = []
    for t in reversed(range(len(chain) - window, len(chain))):
        step = chain.push(t, eye)
        inverse, failed = torch.linalg.inv_ex(step)
        condition = torch.linalg.matrix_norm(step) * torch.linalg.matrix_norm(inverse)
        singular = singular | ((failed > 0) | ~(condition < SINGULAR)).unsqueeze(-1)
        inverse = torch.where(singular.unsqueeze(-1), eye, inverse)
        pair = torch.stack([pair[0] @ step, inverse @ pair[1]])
        pair, scale = _rescale(pair, scale)
        top, bottom = torch.linalg.svdvals(pair).log10() + scale  # (B, n) each
        bottom = torch.where(singular, none, -bottom.flip(-1))
        bottom = torch.where(bottom <= bottom[:, -1:] + DIGITS, bottom, torch.nan)
        spectra.append(torch.where(top >= top[:, :1] - DIGITS, top, bottom))
    return torch.stack(spectra)


def _largest(chain: Chain, count: int, window: int) -> Tensor:
    steps = range(len(chain) - window, len(chain))
    frame = chain.frame(min(count + 8, sum(chain.sizes)))
    values = torch.full_like(frame[:, 0, :count], torch.nan)  # (B, count)
    one = torch.diag_embed(torch.ones_like(frame[:, 0]))
    for _ in range(100):
        before, product, scale, diagonal = values, one, 0.0, 0.0
        for t in steps:
            frame, r = torch.linalg.qr(chain.push(t, frame))
            product, scale = _rescale(r @ product, scale)
            diagonal = diagonal + growth(r) / math.log(10)
        values = torch.linalg.svdvals(product).log10() + scale
        values = torch.where(values >= values[:, :1] - DIGITS, values, diagonal)[:, :count]
        if torch.isclose(values, before, rtol=0, atol=1e-6).all():
            break
        for t in reversed(steps):
            frame, _ = torch.linalg.qr(chain.pull(t, frame))
    return values.sort(descending=True).values


def _rescale(matrix: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor]:
    """(..., n, n) with norm one, and the decimal logarithm (..., 1) of its scale."""
    norm = torch.linalg.matrix_norm(matrix).unsqueeze(-1)
    norm = torch.where(norm == 0, 1.0, norm)
    return matrix / norm.unsqueeze(-1), scale + norm.log10()
