"""In float32 the kernel's error is at most four times that of torch's own layers, over many places and many units."""

import copy

import pytest
import torch
from torch import nn

import carousel
from carousel.engine.fused.cpu import build

try:
    build.compiler()
except build.BuildError:
    pytest.skip("no compiler", allow_module_level=True)

pytestmark = pytest.mark.optimized


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


FUNCTIONS = {
    "log": (torch.log, lambda u: torch.exp(180 * u - 90)),
    "log near 1": (torch.log, lambda u: 0.5 + u),
    "log1p": (torch.log1p, lambda u: 2 * u - 1),
    "log1p of small numbers": (torch.log1p, lambda u: -torch.exp(-80 * u)),
    "expm1": (torch.expm1, lambda u: 90 * u - 20),
    "expm1 near 0": (torch.expm1, lambda u: u - 0.5),
    "softplus": (torch.nn.functional.softplus, lambda u: 100 * u - 80),
    "logsigmoid": (torch.nn.functional.logsigmoid, lambda u: 100 * u - 80),
    "sin": (torch.sin, lambda u: 2000 * u - 1000),
    "cos": (torch.cos, lambda u: 2e6 * u - 1e6),
    "erf": (torch.erf, lambda u: 10 * u - 5),
    "pow": (lambda a: a.abs() ** 1.75, lambda u: 60 * u - 30),
    "pow of two": (lambda a: 1.25**a, lambda u: 60 * u - 30),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elementary_functions_are_within_3_units_in_the_last_place(dtype):
    class Functions(carousel.Cell):
        """Its states are the functions of the input."""

        gates, states = tuple("x" * len(FUNCTIONS)), tuple(FUNCTIONS)

        def shapes(self):
            return {}

        def input_map(self, x):
            return x

        def hidden_map(self, h):
            return h

        def update(self, wx, uh, state):
            parts = wx.chunk(len(FUNCTIONS), -1)
            return tuple(f(part) for (f, _), part in zip(FUNCTIONS.values(), parts, strict=True)), {}

    u = torch.linspace(0, 1, 4003, dtype=torch.float64)
    x = torch.cat([arguments(u) for _, arguments in FUNCTIONS.values()]).to(dtype)
    layer = carousel.Recurrent(Functions, len(x), len(u), bias=False, backend="fused", dtype=dtype)
    _, last = layer(x.view(1, 1, -1))
    for (name, (f, _)), part, found in zip(FUNCTIONS.items(), x.chunk(len(FUNCTIONS)), last, strict=True):
        truth = f(part.double())
        rounded = truth.to(dtype).abs()
        unit = torch.nextafter(rounded, torch.tensor(torch.inf, dtype=dtype)) - rounded
        wrong = (found.flatten().double() - truth).abs() / unit.double()
        assert wrong[truth.isfinite()].max() <= 3, name
