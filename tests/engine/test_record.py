"""Every gate and every state of every step, by the kernel: what the loop records, and its derivatives."""

import copy

import pytest
import torch
from agreement import CATALOGUE, assert_same_with_gradients, fill, needs_compiler, tensors
from torch import nn

import carousel
from carousel import Regularization, engine
from carousel.engine import record

pytestmark = needs_compiler
F64 = {"dtype": torch.float64}


class Inspected(nn.Module):
    """What is recorded of a layer, called with these options and with the same noise each time."""

    def __init__(self, layer: nn.Module, **call) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, *given):
        torch.manual_seed(2)
        return [t for kept in self.layer.inspect(*given, **self.call) for t in kept.values()]


def pair(cell, *sizes, **options) -> tuple[nn.Module, nn.Module]:
    """The same layer, by the kernel and by the loop."""
    fused = fill(carousel.Recurrent(cell, *sizes, backend="fused", **options))
    eager = copy.deepcopy(fused)
    eager.backend = "eager"
    return fused, eager


def states(layer, *shape):
    drawn = tuple(torch.rand(*shape, size, **F64) + 0.1 for size in layer.cell().state_sizes)
    return drawn if len(drawn) > 1 else drawn[0]


@pytest.mark.parametrize("name", ["lstm", "min_gru", "lstm_layer_norm", "slstm", "lem"])
def test_the_record_is_the_loops(name):
    cell, options = CATALOGUE[name]
    fused, eager = pair(cell, 3, 5, 2, bidirectional=True, **F64, **options)
    x, hx = torch.randn(4, 2, 3, **F64), states(fused, 4, 2)
    assert [list(kept) for kept in fused.inspect(x)] == [list(kept) for kept in eager.inspect(x)]
    assert_same_with_gradients(Inspected(fused), Inspected(eager), x, hx, tolerance=1e-9)


@pytest.mark.parametrize("name", ["lstm_projected", "gru", "indrnn"])
def test_with_every_mask(name):
    cell, options = CATALOGUE[name]
    noise = Regularization(zoneout=0.3, recurrent=0.4)
    fused, eager = pair(cell, 3, 5, 2, bidirectional=True, regularization=noise, **F64, **options)
    call = {"lengths": [9, 3, 5], "reset": torch.rand(9, 3) < 0.3}
    x = torch.randn(9, 3, 3, **F64)
    assert_same_with_gradients(
        Inspected(fused, **call), Inspected(eager, **call), x, states(fused, 4, 3), tolerance=1e-9
    )


def test_a_module_has_states_and_no_gates():
    fused, eager = pair(nn.LSTMCell, 3, 5, bidirectional=True, **F64)
    x = torch.randn(4, 2, 3, **F64)
    assert list(fused.inspect(x)[0]) == list(eager.inspect(x)[0])
    assert_same_with_gradients(Inspected(fused, lengths=[4, 2]), Inspected(eager, lengths=[4, 2]), x, tolerance=1e-9)


class Leaky(carousel.Cell):
    """With a map of the input that is not the same twice, and a gate that all sequences share."""

    gates = ("a",)

    def __init__(self, *args, alike: bool = False, **options):
        self.alike = alike
        super().__init__(*args, **options)

    def shapes(self):
        return super().shapes() | {"rate": (self.hidden_size,)}

    def input_map(self, x):
        return nn.functional.dropout(super().input_map(x), 0.5)

    def update(self, wx, uh, state):
        rate, a = self.rate.sigmoid(), (wx + uh).tanh()
        return (state[0] + rate * (a - state[0]),), {"rate": rate if self.alike else rate.expand_as(a), "a": a}


def test_what_is_drawn_is_drawn_once():
    fused, eager = pair(Leaky, 3, 5, **F64)
    assert_same_with_gradients(Inspected(fused), Inspected(eager), torch.randn(6, 5, 3, **F64), tolerance=1e-9)


def test_a_gate_that_all_sequences_share_is_the_loops():
    layer, x = carousel.Recurrent(Leaky, 3, 5, alike=True), torch.randn(6, 5, 3)
    with engine.choices() as taken:
        (seen,) = layer.inspect(x)
    assert taken[0] == ("eager", "a gate is not H numbers of each sequence that its states are made of")
    assert seen["rate"].shape == (6, 5)


def test_second_derivatives():
    fused, eager = pair(carousel.GRUCell, 3, 5, 2, bidirectional=True, **F64)
    x, found = torch.randn(4, 2, 3, **F64), []
    for layer in (fused, eager):
        first = torch.autograd.grad(
            sum(t.pow(2).sum() for t in Inspected(layer)(x)), layer.parameters(), create_graph=True
        )
        found.append(torch.autograd.grad(sum(d.pow(2).sum() for d in first), list(layer.parameters())))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_it_is_told_who_records():
    layer, x = carousel.GRU(3, 5), torch.randn(4, 2, 3)

    def chosen(inspect=layer.inspect) -> engine.Choice:
        with engine.choices() as taken:
            inspect(x)
        return taken[-1]

    assert chosen() == ("fused", record.REASON)
    with torch.no_grad():
        assert chosen() == ("fused", record.REASON)
        assert not any(t.requires_grad for t in tensors([list(layer.inspect(x)[0].values())]))

    def transformed(x):
        return torch.func.vmap(lambda s: s * layer.inspect(x)[0]["z"])(torch.ones(2))

    choice = chosen(transformed)
    assert choice.engine == "eager"
    assert "within a transform" in choice.reason


def test_what_is_recorded_is_ones_own_to_write_into():
    layer, x = carousel.GRU(3, 5), torch.randn(4, 2, 3)
    layer.register_forward_hook(lambda module, args, result: result[0].mul_(2))
    with torch.no_grad():
        (seen,) = layer.inspect(x)
        layer._forward_hooks.clear()
        torch.testing.assert_close(seen["h"], layer(x)[0])
