"""The exponents where they are known, against determinants, and against two trajectories that part."""

import math

import pytest
import torch
from agreement import CATALOGUE, fill
from blackbox import advance, derivative, hx, random_state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel.gradients import lyapunov

pytestmark = pytest.mark.usefixtures("float64")
SINGULAR = {"lstm_NOG", "lstm_FGR", "indrnn"}  # h is a function of the other states; a relu may be off


class LinearCell(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (wx + uh,), {}


def linear(matrix):
    layer = carousel.Recurrent(LinearCell, 1, len(matrix))
    with torch.no_grad():
        layer.weight_hh_l0.copy_(matrix)
    return layer


def test_an_orthogonal_network_has_its_gain_in_every_direction():
    layer = carousel.Recurrent(LinearCell, 1, 8, init=carousel.initialization.Orthogonal(0.9))
    (measured,) = lyapunov(layer, lambda: layer(torch.randn(20, 3, 1)))
    torch.testing.assert_close(measured, torch.full((3, 8), math.log(0.9)), rtol=0, atol=1e-12)


def test_a_normal_matrix_has_the_logarithms_of_its_eigenvalues():
    eigenvalues = torch.tensor([1.5, -1.1, 0.8, -0.5, 0.1])
    basis = torch.linalg.qr(torch.randn(5, 5)).Q
    layer = linear(basis * eigenvalues @ basis.T)
    (measured,) = lyapunov(layer, lambda: layer(torch.zeros(150, 2, 1)), discard=100)
    torch.testing.assert_close(measured, eigenvalues.abs().log().expand(2, 5), rtol=0, atol=1e-10)


def test_any_matrix_has_them_after_many_steps():
    matrix = torch.randn(6, 6) / math.sqrt(6)
    layer = linear(matrix)
    (measured,) = lyapunov(layer, lambda: layer(torch.zeros(600, 1, 1)), discard=100)
    expected = torch.linalg.eigvals(matrix).abs().log().sort(descending=True).values
    torch.testing.assert_close(measured[0], expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", sorted(CATALOGUE.keys() - SINGULAR))
@settings(max_examples=2, deadline=None)
@given(hidden=st.integers(3, 5), steps=st.integers(1, 8), seed=st.integers(0, 2**16), data=st.data())
def test_they_sum_to_the_mean_logarithm_of_the_determinant(name, hidden, steps, seed, data):
    discard = data.draw(st.integers(0, steps - 1))
    torch.manual_seed(seed)
    cell, options = CATALOGUE[name]
    layer = fill(carousel.Recurrent(cell, 2, hidden, backend="eager", **options))
    x, s = torch.randn(steps, 2, 2), random_state(layer, 2)
    (measured,) = lyapunov(layer, lambda: layer(x, hx(layer, s)), discard=discard)
    assert measured.shape == s.shape  # of an LSTM 2H
    volumes = []
    for x_t in x:
        volumes.append(torch.linalg.slogdet(derivative(layer, x_t.unsqueeze(0), s)).logabsdet)
        s = advance(layer, x_t.unsqueeze(0), s).detach()
    torch.testing.assert_close(measured.sum(-1), torch.stack(volumes[discard:]).mean(0), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("layer_type", "gain"), [(carousel.RNN, 2.0), (carousel.LSTM, 12.0)])
def test_the_first_is_how_fast_two_trajectories_part(layer_type, gain):
    layer = layer_type(1, 100, bias=False, backend="eager")
    with torch.no_grad():
        layer.weight_hh_l0.normal_(std=gain / math.sqrt(100))
    x, s = torch.zeros(250, 1, 1), random_state(layer, 1)
    (measured,) = lyapunov(layer, lambda: layer(x, hx(layer, s)), 2, discard=100)
    kick, rates = 1e-7 * nn.functional.normalize(torch.randn_like(s)), []
    with torch.no_grad():
        for x_t in x.split(1):
            kicked, s = advance(layer, x_t, s + kick), advance(layer, x_t, s)
            rates.append((kicked - s).norm().div(1e-7).log())
            kick = 1e-7 * nn.functional.normalize(kicked - s)
    assert measured[0, 0].item() == pytest.approx(torch.stack(rates[100:]).mean().item(), rel=0.02)
    assert measured[0, 0] > 0.1  # chaos
    assert measured[0, 0] > measured[0, 1]


def test_what_dies_exactly_is_minus_infinity():
    relu = carousel.RNN(2, 4, nonlinearity="relu")
    with torch.no_grad():
        relu.bias_ih_l0.copy_(torch.tensor([9.0, -9.0, 9.0, 9.0]))
    (measured,) = lyapunov(relu, lambda: relu(torch.randn(20, 2, 2)))
    assert measured[:, :3].isfinite().all()
    assert measured[:, 3].eq(-torch.inf).all()
    layer, reset = carousel.GRU(2, 4), torch.tensor([[False, True]] * 5)
    (measured,) = lyapunov(layer, lambda: layer(torch.randn(5, 2, 2), reset=reset))
    assert measured[0].isfinite().all()
    assert measured[1].eq(-torch.inf).all()


def test_torchs_modules_are_measured_as_their_twins_within_a_model_of_ones_own():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, 2)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    model, x = Model(), torch.randn(9, 2, 3)
    measured = lyapunov(model.rnn, lambda: model(x))
    twin = carousel.from_torch(model.rnn)
    assert [m.shape for m in measured] == [(2, 8), (2, 8)]
    for a, b in zip(measured, lyapunov(twin, lambda: twin(x)), strict=True):
        torch.testing.assert_close(a, b)


def test_padding_does_not_count_in_either_direction():
    layer = carousel.LSTM(3, 4, bidirectional=True)
    x = torch.randn(7, 2, 3)
    padded = lyapunov(layer, lambda: layer(x, lengths=[7, 4]), 3, discard=2)
    alone = lyapunov(layer, lambda: layer(x[:4, 1:]), 3, discard=2)
    for a, b in zip(padded, alone, strict=True):
        torch.testing.assert_close(a[1:], b)
    for direction in lyapunov(layer, lambda: layer(x, lengths=[7, 4]), discard=4):
        assert direction[0].isfinite().all()
        assert direction[1].isnan().all()


def test_it_reproduces_and_leaves_the_generator_and_the_layer_alone():
    layer, x = carousel.LSTM(2, 8, dtype=torch.float32), torch.randn(30, 2, 2, dtype=torch.float32)
    before = torch.get_rng_state()
    first, again = (lyapunov(layer, lambda: layer(x), 3)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
    layer.double()
    (double,) = lyapunov(layer, lambda: layer(x.double()), 3)
    torch.testing.assert_close(first, double, rtol=1e-4, atol=0)


def test_misuse_is_refused():
    layer, x = carousel.LSTM(2, 3), torch.randn(4, 2, 2)
    with pytest.raises(ValueError, match="exactly once, not 2 times"):
        lyapunov(layer, lambda: layer(layer(x)[0][..., :2]))
    for exponents in (0, 7):
        with pytest.raises(
            ValueError, match=f"exponents must be between 1 and 6, the size of the state, got {exponents}"
        ):
            lyapunov(layer, lambda: layer(x), exponents)
    for discard in (-1, 4):
        with pytest.raises(ValueError, match="discard must be between 0 and 3, the number of steps less one"):
            lyapunov(layer, lambda: layer(x), discard=discard)
    with pytest.raises(ValueError, match="state is not finite"):
        lyapunov(layer, lambda: layer(x * torch.nan))
