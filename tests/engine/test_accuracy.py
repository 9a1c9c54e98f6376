"""In float32 the kernel's error is at most four times that of torch's own layers, over many places and many units."""

import copy

import pytest
import torch
from torch import nn

import carousel
from carousel.engine.fused import build

try:
    build.compiler()
except build.BuildError:
    pytest.skip("no compiler", allow_module_level=True)


def results(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output and the gradients of its mean, of every parameter and of the input."""
    x = x.to(layer.weight_hh_l0.dtype).requires_grad_()
    output, _ = layer(x)
    return [output.detach(), *torch.autograd.grad(output.mean(), [*layer.parameters(), x])]


def errors(found: list[torch.Tensor], truth: list[torch.Tensor]) -> list[float]:
    return [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, truth, strict=True)]


@pytest.mark.parametrize("x", ["noise", "constant"])
@pytest.mark.parametrize(
    ("name", "batch", "steps", "inputs", "hidden"),
    [("LSTM", 1000, 100, 4, 16), ("GRU", 1000, 100, 4, 16), ("GRU", 3, 2500, 4, 16), ("RNN", 5, 3, 1100, 1100)],
)
def test_at_most_four_times_torchs_error(name, batch, steps, inputs, hidden, x):
    theirs = getattr(nn, name)(inputs, hidden)
    ours = carousel.from_torch(theirs)
    ours.backend = "fused"
    given = torch.ones(steps, batch, inputs) if x == "constant" else torch.randn(steps, batch, inputs)
    truth = results(copy.deepcopy(theirs).double(), given)
    for mine, torchs in zip(errors(results(ours, given), truth), errors(results(theirs, given), truth), strict=True):
        assert mine <= 4 * torchs
        assert mine < 2e-6


@pytest.mark.parametrize("threads", [1, 2])
def test_parameters_of_the_cell_itself_and_of_the_projection(threads):
    fused = carousel.LSTM(2, 16, peephole=True, proj_size=5, backend="fused")
    exact = copy.deepcopy(fused).double()
    exact.backend = "eager"
    x, before = torch.ones(100, 600, 2), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert max(errors(results(fused, x), results(exact, x))) < 1e-6
    finally:
        torch.set_num_threads(before)
