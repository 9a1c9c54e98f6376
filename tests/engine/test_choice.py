"""Which engine a call takes: never another one in silence."""

import copy

import pytest
import torch
from agreement import needs_compiler
from torch import nn

import carousel
from carousel.cells import MGUCell
from carousel.gradients import watch


class Sorted(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return ((wx + uh).sort(-1).values,), {}


class Digamma(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (torch.digamma(wx + uh),), {}


class Looking(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (wx if wx.sum() > 0 else uh,), {}


class Neighbours(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (wx + (uh.unsqueeze(-1) * uh.unsqueeze(-2)).sum(-1),), {}


class Batchmates(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (wx + uh.flip(0),), {}


class Noisy(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (nn.functional.dropout(wx + uh),), {}


def sample(dtype=torch.float32):
    return torch.randn(4, 2, 3, dtype=dtype)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Sorted, "Sorted: it uses aten.sort"),
        (Digamma, "Digamma: it uses aten.digamma.default, which the kernel does not know"),
        (Looking, "Looking: it mixes the sequences of a batch"),
        (Neighbours, "Neighbours: it mixes hidden units other than by the hidden map (test_choice.py:"),
        (Batchmates, "Batchmates: it mixes the sequences of a batch"),
        (Noisy, "Noisy: it uses aten."),
    ],
)
def test_a_cell_that_the_kernel_cannot_express(cell, reason):
    layer = carousel.Recurrent(cell, 3, 5)
    (choice,) = carousel.explain(layer, sample())
    assert choice.engine == "eager"
    assert reason in choice.reason
    assert layer(sample())[0].shape == (4, 2, 5)
    with pytest.raises(RuntimeError, match="backend='fused' cannot run this"):
        carousel.Recurrent(cell, 3, 5, backend="fused")(sample())


def test_calls_that_are_the_loops():
    layer = carousel.LSTM(3, 5)

    def reason(layer=layer, x=None, **options):
        (choice,) = carousel.explain(layer, sample() if x is None else x, **options)
        assert choice.engine == "eager"
        return choice.reason

    assert reason(carousel.LSTM(3, 5, backend="eager")) == "backend='eager'"
    own = carousel.Recurrent(MGUCell, 3, 5, dtype=torch.bfloat16)
    assert "float32 and float64" in reason(own, sample(torch.bfloat16))
    assert "empty" in reason(x=torch.empty(4, 0, 3))
    seen = []
    torch.func.vmap(lambda x: seen.append(reason(x=x)) or layer(x)[0], in_dims=1)(sample())
    assert "torch.func" in seen[0]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(sample(), sample())
        assert "forward-mode" in reason(x=dual)
    hook = layer._loops[0][1].register_forward_hook(lambda *_: None)
    assert "hook" in reason()
    hook.remove()


@needs_compiler
def test_calls_that_are_the_kernels():
    layer = carousel.LSTM(3, 5, 2, bidirectional=True, proj_size=2, dropout=0.5)
    chosen = carousel.explain(layer, sample())
    assert [choice.engine for choice in chosen] == ["fused"] * 4
    assert "derivatives beyond the first run the loop" in chosen[0].reason
    packed = nn.utils.rnn.pack_padded_sequence(sample(), [4, 2])
    reset = torch.zeros(4, 2, dtype=torch.bool)
    for call in ((packed,), (sample(), None)):
        assert {choice.engine for choice in carousel.explain(layer, *call)} == {"fused"}
    assert {choice.engine for choice in carousel.explain(layer, sample(), reset=reset)} == {"fused"}
    assert {choice.engine for choice in carousel.explain(layer.double(), sample(torch.float64))} == {"fused"}


def test_explaining_changes_nothing():
    layer = carousel.GRU(3, 5, 2, dropout=0.5, backend="eager")
    torch.manual_seed(0)
    expected = layer(sample())[0]
    torch.manual_seed(0)
    x = sample()
    carousel.explain(layer, x)
    assert torch.equal(layer(x)[0], expected)
    assert layer.backend == "eager"


def eager(layer):
    twin = copy.deepcopy(layer)
    twin.backend = "eager"
    return twin


class Annealed(carousel.Cell):
    """Another function in evaluation than in training."""

    gates = ("a",)

    def update(self, wx, uh, state):
        return ((wx + uh).tanh() if self.training else (wx + uh).relu(),), {}


@needs_compiler
def test_training_and_evaluation_are_two_kernels():
    layer, x = carousel.Recurrent(Annealed, 3, 5, backend="fused"), sample()
    for training in (True, False, True):
        layer.train(training)
        torch.testing.assert_close(layer(x)[0], eager(layer)(x)[0])


class Option(carousel.Cell):
    """Reads one or the other half of a parameter: of one source for both."""

    gates = ("a",)

    def __init__(self, *args, half=0, heat=2.0, **options):
        self.half, self.heat = half, heat
        super().__init__(*args, **options)

    def shapes(self):
        return super().shapes() | {"scale": (2 * self.hidden_size,)}

    def input_map(self, x):
        return (super().input_map(x) * self.heat).softmax(-1)

    def update(self, wx, uh, state):
        return ((wx + uh * self.scale.chunk(2)[self.half]).tanh(),), {}


@needs_compiler
def test_cells_that_differ_in_an_option_alone():
    layers = [
        carousel.Recurrent(Option, 3, 5, backend="fused", half=half, heat=heat) for half in (0, 1) for heat in (2, 5)
    ]
    x = sample()
    for layer in layers:
        layer(x)
    for layer in layers:
        torch.testing.assert_close(layer(x)[0], eager(layer)(x)[0])


def test_a_backend_that_is_none():
    with pytest.raises(ValueError, match="backend should be one of auto, eager, fused, torch, triton, got 'cuda'"):
        carousel.LSTM(3, 5, backend="cuda")


def test_a_layer_is_watched_once_at_a_time():
    layer = carousel.LSTM(3, 5)
    with watch(layer) as flows:
        with pytest.raises(ValueError, match="watched already"), watch(layer):
            pass
        layer(sample())[0].sum().backward()
    assert len(flows) == 1
    with watch(layer) as flows:
        pass
    assert flows == []
    with (
        pytest.raises(TypeError, match=r"expected a .* layer, got LSTM; see from_torch"),
        watch(nn.LSTM(3, 5)),
    ):
        pass
