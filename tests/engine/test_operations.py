"""What an update may do: functions of torch's, several of them in one cell, against the loop."""

import copy

import pytest
import torch
import torch.nn.functional as F
from agreement import assert_same_with_gradients

import carousel
from carousel.engine import explain
from carousel.engine.fused.cpu import build

try:
    build.compiler()
except build.BuildError:
    pytest.skip("no compiler", allow_module_level=True)

pytestmark = pytest.mark.optimized

GROUPS = {
    "activations": {
        "hardsigmoid": lambda a, b: F.hardsigmoid(a),  # torch's gradient has 1/6 as a float32
        "softshrink": lambda a, b: F.softshrink(a),
        "hardshrink": lambda a, b: F.hardshrink(a),
        "celu": lambda a, b: F.celu(a),
        "mish": lambda a, b: F.mish(a),
        "logsigmoid": lambda a, b: F.logsigmoid(a),
        "threshold": lambda a, b: F.threshold(a, 0.1, 0.3),
    },
    "functions": {
        "inverse": lambda a, b: torch.asin(0.9 * a.tanh()) + torch.acosh(1.1 + b.abs()) + torch.atanh(0.9 * b.tanh()),
        "hyperbolic": lambda a, b: a.sinh() + b.cosh() + a.asinh() + b.tan(),
        "powers": lambda a, b: a.exp2() + (b.abs() + 0.1).log10() + torch.erfc(a),
        "whole": lambda a, b: (3 * a).round() * b + (3 * a).ceil() + (3 * b).trunc() * a + b.frac() + a.sgn() + a,
        "two": lambda a, b: torch.hypot(a, b) + torch.atan2(a, b) + torch.logaddexp(a, b) + torch.copysign(a, b),
        "divided": lambda a, b: torch.fmod(a, b) + a % b + torch.div(a, b, rounding_mode="floor") * b + a % 0.3,
        "greater": lambda a, b: torch.fmax(a, b) * torch.fmin(a, 0.1 * b) + torch.clamp(a, b - 0.3, b + 0.3),
    },
    "truths": {
        "finite": lambda a, b: torch.where((a / 0 * (b > 0)).isfinite(), a, b) * a.isinf().logical_not(),
        "sum": lambda a, b: ((a > 0) + (b > 0)) * a,
        "product": lambda a, b: ((a > 0) * (b > 0)) * a + (a > 0) * 2 * b,
        "chosen": lambda a, b: torch.where(torch.where(a > 0, b > 0.3, b < -0.3), a, b),
        "constant": lambda a, b: torch.where(torch.ones_like(a, dtype=torch.bool), a, b),
        "number": lambda a, b: torch.where(b.bool(), a, b) + a * torch.full((1,), 0.1),
        "equal": lambda a, b: ((a > 0) == (b > 0)) * a + torch.signbit(a) * b,
    },
}


def cell(functions) -> type[carousel.Cell]:
    class Functions(carousel.Cell):
        gates = ("a", "b")
        states = tuple(functions)

        def update(self, wx, uh, state):
            return tuple(function(*wx.chunk(2, -1)) for function in functions.values()), {}

    return Functions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", GROUPS)
def test_functions(group, dtype):
    fused = carousel.Recurrent(cell(GROUPS[group]), 3, 5, dtype=dtype, backend="fused")
    eager = copy.deepcopy(fused)
    eager.backend = "eager"
    x = torch.randn(3, 16, 3, dtype=dtype)
    assert_same_with_gradients(fused, eager, x, tolerance=1e-11 if dtype is torch.float64 else 1e-4)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda a, b: (a > 0) * 0.1 * b, "makes torch.float32 here, not torch.float64"),
        (lambda a, b: torch.round(a, decimals=1) + b, "round"),
        (lambda a, b: torch.lgamma(a), "lgamma"),
    ],
)
def test_what_the_kernel_would_compute_otherwise_is_left_to_the_loop(function, reason):
    layer = carousel.Recurrent(cell({"s": function}), 3, 5, dtype=torch.float64)
    ((engine, why),) = explain(layer, torch.randn(3, 2, 3, dtype=torch.float64))
    assert engine == "eager"
    assert reason in why


@pytest.mark.parametrize("kind", [torch.bool, torch.int64])
def test_a_buffer_of_truth_values_or_integers(kind):
    class Chosen(carousel.Cell):
        gates = ("a",)

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.register_buffer("which", (torch.arange(self.hidden_size) % 3).to(kind))

        def update(self, wx, uh, state):
            return (torch.where(self.which > 0, wx, uh) + wx * self.which,), {}

    layer, x = carousel.Recurrent(Chosen, 3, 5, dtype=torch.float64), torch.randn(3, 4, 3, dtype=torch.float64)
    eager = copy.deepcopy(layer)
    eager.backend = "eager"
    assert_same_with_gradients(layer, eager, x, tolerance=1e-11)
    (choice,) = carousel.explain(layer, x)
    assert choice.engine == "eager"
    assert choice.reason.startswith("Chosen: it reads a tensor of torch.")
