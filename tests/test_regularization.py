"""What is dropped, how often, and for how long."""

import pytest
import torch

import carousel
from carousel import Regularization


class Sum(carousel.Cell):
    """h_t = U h_{t-1} + W x_t: shows every mask as it is."""

    gates = ("a",)

    def update(self, wx, uh, state):
        return (wx + uh,), {}


def identity_layer(size=64, gain=1.0, **rates):
    layer = carousel.Recurrent(Sum, size, size, bias=False, regularization=Regularization(**rates))
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.eye(size))
        layer.weight_hh_l0.copy_(gain * torch.eye(size))
    return layer


def test_input_dropout_drops_the_same_units_at_every_step():
    layer = identity_layer(gain=0.0, input=0.25)
    output, _ = layer(torch.ones(20, 500, 64))
    assert torch.equal(output, output[:1].expand_as(output))
    values = output[0].unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.75]))
    assert (output[0] == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(output[0, 0], output[0, 1])  # each sequence has its own
    assert torch.equal(layer.eval()(torch.ones(20, 5, 64))[0], torch.ones(20, 5, 64))


def test_recurrent_dropout_drops_the_same_units_of_h_at_every_step():
    layer = identity_layer(recurrent=0.5)
    output, _ = layer(torch.ones(4, 300, 64))
    dropped = output[1] == 1  # what was dropped starts from x alone at each step
    assert dropped.float().mean() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(output[3][dropped], torch.ones_like(output[3][dropped]))
    torch.testing.assert_close(output[3][~dropped], torch.full_like(output[3][~dropped], 1 + 2 + 4 + 8))


@pytest.mark.parametrize("rates", [(0.3, 0.7), 0.4])
def test_zoneout_keeps_units_at_random_and_moves_by_the_mean_in_evaluation(rates):
    layer = carousel.LSTM(4, 50, regularization=Regularization(zoneout=rates))
    of_h, of_c = rates if isinstance(rates, tuple) else (rates, rates)
    (seen,) = layer.inspect(torch.randn(30, 100, 4))
    for name, rate in (("h", of_h), ("c", of_c)):
        kept = seen[name][1:] == seen[name][:-1]
        assert kept.float().mean() == pytest.approx(rate, abs=0.01)
        assert kept.float().mean((0, 1)).std() < 0.03  # drawn anew at each step, for each unit
    layer.eval()
    x, (h, c) = torch.randn(1, 100, 4), (torch.randn(1, 100, 50), torch.randn(1, 100, 50))
    plain = layer.cell()(x[0], (h[0], c[0]))
    _, (new_h, new_c) = layer(x, (h, c))
    torch.testing.assert_close(new_h[0], of_h * h[0] + (1 - of_h) * plain[0])
    torch.testing.assert_close(new_c[0], of_c * c[0] + (1 - of_c) * plain[1])


def test_weight_dropout_drops_the_same_recurrent_weights_at_every_step():
    layer = identity_layer(weight=0.5)
    output, _ = layer(torch.ones(4, 3, 64))
    assert torch.equal(output[:, 0], output[:, 2])  # the same for every sequence
    dropped = output[1, 0] == 1
    assert 10 < dropped.sum() < 54
    torch.testing.assert_close(output[3, 0][~dropped], torch.full_like(output[3, 0][~dropped], 15.0))
    layer(torch.ones(4, 3, 64))[0].sum().backward()
    assert (layer.weight_hh_l0.grad == 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(4, 1, 64))[0][3], torch.full((1, 64), 4.0))


def test_noise_does_not_touch_padding_and_every_kind_trains():
    layer = carousel.LSTM(3, 4, 2, bidirectional=True, regularization=Regularization(0.2, 0.2, 0.2, 0.2))
    x = torch.randn(6, 2, 3)
    output, (h, _) = layer(x, lengths=[6, 2])
    assert output[2:, 1].abs().sum() == 0
    torch.testing.assert_close(h[2, 1], output[1, 1, :4])
    output.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize(
    "rates", [{"input": -0.1}, {"recurrent": 1.1}, {"zoneout": (0.1, 2.0)}, {"weight": 7}, {"input": "0.5"}]
)
def test_what_is_no_probability_is_refused(rates):
    with pytest.raises(ValueError, match=f"{next(iter(rates))} should be a probability in range"):
        Regularization(**rates)


def test_zoneout_needs_a_rate_for_each_state():
    with pytest.raises(ValueError, match="one for each of the cell's 2 states"):
        carousel.LSTM(2, 3, regularization=Regularization(zoneout=(0.1, 0.1, 0.1)))


def recorded(kind, **options):
    """The states after each of 30 steps in training, half of the units held back: by name, (T, B, H)."""
    torch.manual_seed(0)
    layer = carousel.Recurrent(kind, 4, 50, regularization=Regularization(zoneout=0.5), **options)
    (seen,) = layer.inspect(torch.randn(30, 20, 4))
    return seen


def test_states_of_one_number_are_held_back_together():
    seen = recorded(carousel.cells.LRUCell)
    held = {name: seen[name][1:] == seen[name][:-1] for name in ("y", "re", "im")}
    assert held["re"].float().mean() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(held["re"], held["im"])
    assert not torch.equal(held["re"], held["y"])


def test_what_others_are_measured_by_is_not_held_back():
    clock = recorded(carousel.cells.PhasedLSTMCell)["t"]
    assert torch.equal(clock[:, 0, 0], torch.arange(1.0, 31.0))
    assert recorded(carousel.cells.RGLRUCell)["n"].eq(1).all()
    seen = recorded(carousel.cells.SLSTMCell)
    assert (seen["n"] >= 1).all()
    assert (seen["h"][1:] == seen["h"][:-1]).float().mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "rates", "line"),
    [
        ("LRUCell", (0, 0.1, 0.2), r"zoneout should be the same for re and im of LRUCell, got \(0, 0.1, 0.2\)"),
        ("RGLRUCell", (0, 0.1), "RGLRUCell can't do without n: its zoneout should be 0, got 0.1"),
    ],
)
def test_what_cannot_be_held_back_is_refused(kind, rates, line):
    with pytest.raises(ValueError, match=line):
        carousel.Recurrent(getattr(carousel.cells, kind), 2, 3, regularization=Regularization(zoneout=rates))


def test_weight_dropout_needs_a_recurrent_weight():
    class Leaky(carousel.Cell):
        gates = ("a",)

        def shapes(self):
            return {name: shape for name, shape in super().shapes().items() if name != "weight_hh"}

        def hidden_map(self, h):
            return h

        def update(self, wx, uh, state):
            return ((wx + 0.5 * uh).tanh(),), {}

    layer = carousel.Recurrent(Leaky, 2, 3, regularization=Regularization(weight=0.5))
    with pytest.raises(ValueError, match="weight dropout needs a cell with a recurrent weight"):
        layer(torch.randn(4, 1, 2))
