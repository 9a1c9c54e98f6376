"""How fast neighbouring trajectories of a layer part: its Lyapunov exponents."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .chain import Chain, growth
from .runs import runs


def lyapunov(
    layer: nn.Module, model: Callable[[], Any], exponents: int | None = None, discard: int = 0
) -> list[Tensor]:
    """Measure the Lyapunov exponents of a layer under the input that it is given.

    By carrying an orthonormal frame along, and orthonormalising it anew at every step (Benettin et al. 1980; for
    recurrent networks Engelken, Wolf & Abbott 2023, and Vogt et al. 2022). The first exponent is positive in chaos; an
    error that comes back through many steps grows or decays by it per step. The state is the full one, for an LSTM h
    and c: with c held fixed the carousel would be left out.

    Args:
        layer: a `Recurrent` layer, or one of torch.nn that `from_torch` takes.
        model: runs the model that contains `layer`, once; what it returns does not matter.
        exponents: how many, from the largest on; by default all, as many as all states have units.
        discard: so many steps at the start only turn the frame, and are left out of the mean.

    Returns:
        (B, exponents) for each layer and direction, in the order of torch's states: natural logarithms per step,
        averaged over the steps that a sequence really has. They are as they come, in descending order once the run is
        long enough; -inf for a direction that dies; nan for a sequence of no more than `discard` steps.

    Raises:
        ValueError: the model ran the layer not exactly once, a state is not finite, `exponents` is not between 1 and
            the size of the state, or `discard` not between 0 and the number of steps less one.
    """
    with runs(layer, model) as found:
        chains = [Chain(run) for run in found]
        n, steps = min(sum(chain.sizes) for chain in chains), len(chains[0])
        if exponents is not None and exponents not in range(1, n + 1):
            raise ValueError(f"exponents must be between 1 and {n}, the size of the state, got {exponents}")
        if discard not in range(steps):
            raise ValueError(f"discard must be between 0 and {steps - 1}, the number of steps less one, got {discard}")
        return [_exponents(chain, exponents, discard) for chain in chains]


def _exponents(chain: Chain, exponents: int | None, discard: int) -> Tensor:
    frame = chain.frame(exponents or sum(chain.sizes))
    total, counted = torch.zeros_like(frame[:, 0]), 0  # (B, exponents)
    for t in range(len(chain)):
        frame, r = torch.linalg.qr(chain.push(t, frame))
        if t >= discard:
            real = chain.run.real(t)
            total, counted = total + torch.where(real, growth(r), 0.0), counted + real
    return total / counted
