"""W x by a kernel of its own: the loop's numbers and gradients, whatever is asked of them."""

import copy

import pytest
import torch
from agreement import assert_same_with_gradients, fill, needs_compiler

import carousel
from carousel.cells import ChoGRUCell, LEMCell, LSTMVariantCell, SLSTMCell
from carousel.engine.fused import input_map
from carousel.testing import Seeded

pytestmark = needs_compiler
CASES = [(ChoGRUCell, {}), (LEMCell, {"bias": False}), (SLSTMCell, {"heads": 2})]
CASES += [(LSTMVariantCell, {"layer_norm": True})]


def pair(kind, *sizes, dtype=torch.float64, **options):
    """A layer by the kernels, and the loop of the same."""
    layer = fill(carousel.Recurrent(kind, *sizes, dtype=dtype, backend="fused", **options))
    eager = copy.deepcopy(layer)
    eager.backend = "eager"
    return layer, eager


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Short sequences, too."""
    monkeypatch.setattr(input_map, "LEAST", 4)


@pytest.fixture
def calls(monkeypatch):
    """The shapes of which W x was a kernel's."""
    found, run = [], input_map.op.run

    def noted(key, x, *arguments):
        found.append(tuple(x.shape)) if len(arguments) == 6 else None  # the map alone says whether it wants a copy
        return run(key, x, *arguments)

    monkeypatch.setattr(input_map.op, "run", noted)
    return found


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_it_agrees_with_the_loop(calls, kind, options):
    layer, eager = pair(kind, 5, 6, 2, bidirectional=True, **options)
    x = torch.randn(7, 3, 5, dtype=torch.float64)
    more = {"lengths": [7, 3, 5], "reset": torch.rand(7, 3) < 0.3}
    assert_same_with_gradients(Seeded(layer, **more), Seeded(eager, **more), x, tolerance=1e-10)
    assert [shape[-1] for shape in calls] == [5, 5, 12, 12]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_features_and_places(calls, dtype):
    layer, eager = pair(ChoGRUCell, 130, 40, dtype=dtype)
    x = torch.randn(20, 31, 130, dtype=dtype).transpose(0, 1)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    assert_same_with_gradients(layer, eager, x, tolerance=tolerance)
    assert calls


def test_what_is_wanted_of_it(calls):
    """Second derivatives, gradients in batches, frozen parts, tied weights, and no gradients."""
    found = []
    for layer in pair(LEMCell, 3, 4):
        x = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        y = layer(x)[0]
        first = torch.autograd.grad(y.pow(2).sum(), [x, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad(sum(d.pow(2).sum() for d in first), [x, *layer.parameters()])
        directions = torch.stack([y.detach(), y.detach().cos()])
        batched = torch.autograd.grad(layer(x)[0], [x], directions, is_grads_batched=True)
        layer.weight_ih_l0.requires_grad_(False)
        layer(x.detach())[0].sum().backward()
        frozen = [p.grad for p in layer.parameters()]
        assert layer.weight_ih_l0.grad is None
        layer.weight_ih_l0 = torch.nn.Parameter(layer.weight_hh_l0.detach().repeat(2, 1)[:16, :3].clone())
        with torch.no_grad():
            found.append((first, second, batched, frozen, layer(x)))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)
    assert calls


def test_compiled():
    layer, eager = pair(ChoGRUCell, 3, 4)
    x, found = torch.randn(5, 2, 3, dtype=torch.float64), []
    for one in (torch.compile(layer, backend="aot_eager", fullgraph=True), eager):
        y, _ = one(x)
        found.append([y, *torch.autograd.grad(y.cos().sum(), list(one.parameters()))])
    torch.testing.assert_close(*found)


class Mapped(ChoGRUCell):
    def input_map(self, x):
        return super().input_map(x).tanh() + torch.nn.functional.linear(input=x, weight=self.weight_ih)


def test_a_map_of_the_cells_own(calls):
    assert_same_with_gradients(*pair(Mapped, 3, 4), torch.randn(5, 2, 3, dtype=torch.float64), tolerance=1e-10)
    assert calls == [(5, 2, 3)]  # for the other has names


class InPlace(ChoGRUCell):
    def input_map(self, x):
        return super().input_map(x).tanh_()


def test_a_map_may_write_into_the_product(calls):
    assert_same_with_gradients(*pair(InPlace, 3, 4), torch.randn(5, 2, 3, dtype=torch.float64), tolerance=1e-10)
    assert calls


def test_what_does_not_fit_gets_torchs_error(calls):
    layer, _ = pair(ChoGRUCell, 3, 4)
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        layer(torch.randn(5, 2, 2, dtype=torch.float64))
    assert not calls
