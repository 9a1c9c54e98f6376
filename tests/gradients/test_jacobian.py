"""The singular values against autograd, against 200 digits, and where they are known."""

import mpmath  # comes with torch
import pytest
import torch
from agreement import CATALOGUE, fill
from blackbox import advance, derivative, hx, random_state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel.cells import LSTMVariantCell
from carousel.gradients import jacobian, largest_singular_values

pytestmark = pytest.mark.usefixtures("float64")


class LinearCell(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return (wx + uh,), {}


def symmetric(eigenvalues):
    """A layer whose every step multiplies by the same symmetric matrix."""
    n = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(n, n)).Q
    layer = carousel.Recurrent(LinearCell, 1, n)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(basis * eigenvalues @ basis.T)
    return layer


def assert_spectrum(measured, product):
    """A row of the measure, (B, n), against M itself: the values that float64 resolves in M are there, and right."""
    expected = torch.linalg.svdvals(product).log10()
    resolved = expected > expected[:, :1] - 8
    torch.testing.assert_close(measured[resolved], expected[resolved], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
@settings(max_examples=2, deadline=None)
@given(
    hidden=st.integers(3, 5),
    steps=st.integers(1, 6),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_it_is_the_product_of_the_last_steps(name, hidden, steps, batch, seed, data):
    window = data.draw(st.integers(1, steps))
    torch.manual_seed(seed)
    cell, options = CATALOGUE[name]
    layer = fill(carousel.Recurrent(cell, 2, hidden, backend="eager", **options))
    x, s = torch.randn(steps, batch, 2), random_state(layer, batch)
    (measured,) = jacobian(layer, lambda: layer(x, hx(layer, s)), window)
    assert measured.log10_singular.shape == (window, batch, s.size(-1))
    for lag in range(1, window + 1):
        begun = advance(layer, x[:-lag], s).detach() if lag < steps else s
        product = derivative(layer, x[-lag:], begun)
        assert_spectrum(measured.log10_singular[lag - 1], product)
        condition = torch.linalg.cond(product).log10()
        known = condition < 8
        torch.testing.assert_close(measured.log10_condition[lag - 1][known], condition[known], rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer_type", [carousel.RNN, carousel.LSTM, carousel.GRU])
def test_it_is_right_at_any_scale(layer_type):
    """200 digits, on the product of the same step Jacobians."""
    layer = layer_type(2, 3, backend="eager")
    x, s = torch.randn(60, 1, 2), random_state(layer, 1)
    (measured,) = jacobian(layer, lambda: layer(x, hx(layer, s)))
    steps = []
    for x_t in x:
        steps.append(derivative(layer, x_t.unsqueeze(0), s)[0].tolist())
        s = advance(layer, x_t.unsqueeze(0), s).detach()
    with mpmath.workdps(200):
        product = mpmath.eye(len(steps[0]))
        for step in reversed(steps):
            product *= mpmath.matrix(step)
        exact = torch.tensor([float(mpmath.log10(v)) for v in mpmath.svd_r(product, compute_uv=False)])
    row = measured.log10_singular[-1, 0]
    assert exact[0] - exact[-1] > 16  # beyond what the product in float64 resolves
    torch.testing.assert_close(measured.log10_condition[-1, 0], exact[0] - exact[-1], rtol=0, atol=1e-5)
    told = row.isfinite()
    assert torch.equal(told, (exact > exact[0] - 10) | (exact < exact[-1] + 10))
    torch.testing.assert_close(row[told], exact[told], rtol=0, atol=1e-5)


def test_400_steps_underflow_but_are_numbers():
    exponents = torch.tensor([-1.0, -1.001, -1.5, -2.5, -2.9999, -3.0])
    layer = symmetric(10**exponents)
    assert torch.linalg.matrix_power(layer.weight_hh_l0, 400).count_nonzero() == 0
    (measured,) = jacobian(layer, lambda: layer(torch.zeros(400, 2, 1)))
    exact = torch.outer(torch.arange(1.0, 401.0), exponents)  # (lag, n)
    for b in range(2):
        got = measured.log10_singular[:, b]
        told = got.isfinite()
        torch.testing.assert_close(got[told], exact[told], rtol=1e-9, atol=1e-5)
        assert told[-1].tolist() == [True, True, False, False, True, True]
    assert measured.log10_condition[-1, 0].item() == pytest.approx(800, abs=1e-6)


def test_an_isometry_has_nothing_but_ones():
    layer = carousel.Recurrent(LinearCell, 2, 16, init=carousel.initialization.Orthogonal(1.0))
    (measured,) = jacobian(layer, lambda: layer(torch.randn(100, 1, 2)))
    torch.testing.assert_close(measured.log10_singular, torch.zeros(100, 1, 16), rtol=0, atol=1e-10)
    (largest,) = largest_singular_values(layer, lambda: layer(torch.randn(100, 1, 2)), 3)
    torch.testing.assert_close(largest, torch.zeros(1, 3), rtol=0, atol=1e-10)


def test_a_step_without_an_inverse_has_an_infinite_condition():
    """Without output gate h is a function of c; a relu that is off passes nothing; a reset nothing at all."""
    no_gate = carousel.Recurrent(LSTMVariantCell, 2, 4, without=("output_gate",))
    relu = carousel.RNN(2, 4, nonlinearity="relu")
    with torch.no_grad():
        relu.bias_ih_l0.copy_(torch.tensor([9.0, 9.0, 9.0, -9.0]))
    for layer in (no_gate, relu):
        (measured,) = jacobian(layer, lambda layer=layer: layer(torch.randn(5, 3, 2)))
        assert measured.log10_condition.eq(torch.inf).all()
        assert measured.log10_singular[..., -1].eq(-torch.inf).all()
        assert measured.log10_singular[..., :3].isfinite().all()

    layer, reset = carousel.LSTM(2, 4), torch.zeros(5, 2, dtype=torch.bool)
    reset[2, 1] = True
    (measured,) = jacobian(layer, lambda: layer(torch.randn(5, 2, 2), reset=reset))
    assert measured.log10_singular[:, 0].isfinite().any(-1).all()
    assert measured.log10_singular[:2, 1].isfinite().all()
    assert measured.log10_singular[2:, 1].eq(-torch.inf).all()
    assert measured.log10_condition[2:, 1].eq(torch.inf).all()


@pytest.mark.parametrize("layer_type", [carousel.RNN, carousel.LSTM, carousel.GRU])
@pytest.mark.parametrize("window", [1, 5, 20])
def test_the_largest_alone_are_the_same(layer_type, window):
    layer = layer_type(2, 6)
    x = torch.randn(20, 2, 2)
    (exact,) = jacobian(layer, lambda: layer(x), window)
    (largest,) = largest_singular_values(layer, lambda: layer(x), 3, window)
    torch.testing.assert_close(largest, exact.log10_singular[-1, :, :3], rtol=0, atol=1e-5)


def test_the_largest_of_a_large_state():
    exponents = torch.linspace(-0.5, -2.5, 300)
    layer = symmetric(10**exponents)
    (largest,) = largest_singular_values(layer, lambda: layer(torch.zeros(50, 1, 1)), 3)
    torch.testing.assert_close(largest[0], 50 * exponents[:3], rtol=0, atol=1e-5)


def test_torchs_modules_are_measured_as_their_twins_within_a_model_of_ones_own():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, 2, batch_first=True)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    model, x = Model(), torch.randn(2, 9, 3)
    measured = jacobian(model.rnn, lambda: model(x))
    twin = carousel.from_torch(model.rnn)
    assert len(measured) == 2
    for a, b in zip(measured, jacobian(twin, lambda: twin(x)), strict=True):
        torch.testing.assert_close(a.log10_singular, b.log10_singular, rtol=0, atol=1e-6, equal_nan=True)
    first = nn.LSTM(3, 4, batch_first=True)
    first.load_state_dict({n: p for n, p in model.rnn.state_dict().items() if n.endswith("l0")})
    (alone,) = jacobian(first, lambda: first(x))
    torch.testing.assert_close(measured[0].log10_singular, alone.log10_singular, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("packed", [False, True])
def test_padding_is_the_identity_in_both_directions(packed):
    layer = carousel.LSTM(3, 4, bidirectional=True)
    x, lengths = torch.randn(7, 2, 3), [7, 4]
    if packed:
        sequence = nn.utils.rnn.pack_padded_sequence(x, lengths)
        padded = jacobian(layer, lambda: layer(sequence))
    else:
        padded = jacobian(layer, lambda: layer(x, lengths=lengths))
    alone = jacobian(layer, lambda: layer(x[:4, 1:]))
    assert len(padded) == len(alone) == 2
    for a, b in zip(padded, alone, strict=True):
        assert a.log10_singular[:3, 1].abs().max() < 1e-12
        torch.testing.assert_close(a.log10_singular[3:, 1:], b.log10_singular, rtol=0, atol=1e-6, equal_nan=True)


def test_noise_is_part_of_a_step():
    noise = carousel.Regularization(zoneout=(0.3, 0.5), recurrent=0.5, weight=0.2)
    layer = carousel.LSTM(2, 4, regularization=noise, backend="eager")
    x, s = torch.randn(4, 2, 2), random_state(layer, 2)
    torch.manual_seed(1)
    (measured,) = jacobian(layer, lambda: layer(x, hx(layer, s)))
    assert_spectrum(measured.log10_singular[-1], derivative(layer, x, s))


def test_a_float32_layer_is_measured_in_float64():
    layer, x = carousel.LSTM(2, 8, dtype=torch.float32), torch.randn(50, 2, 2, dtype=torch.float32)
    (single,) = jacobian(layer, lambda: layer(x))
    layer.double()
    (double,) = jacobian(layer, lambda: layer(x.double()))
    torch.testing.assert_close(single.log10_condition, double.log10_condition, rtol=1e-4, atol=0)
    assert layer.weight_hh_l0.grad is None


def test_misuse_is_refused():
    layer, x = carousel.LSTM(2, 3), torch.randn(4, 2, 2)
    with pytest.raises(ValueError, match="exactly once, not 0 times"):
        jacobian(layer, lambda: None)
    for window in (0, 5, -1):
        with pytest.raises(ValueError, match=f"window must be between 1 and 4, the number of steps, got {window}"):
            jacobian(layer, lambda: layer(x), window)
        with pytest.raises(ValueError, match="window must be between 1 and 4"):
            largest_singular_values(layer, lambda: layer(x), window=window)
    for count in (0, 7):
        with pytest.raises(ValueError, match=f"count must be between 1 and 6, the size of the state, got {count}"):
            largest_singular_values(layer, lambda: layer(x), count)
    with pytest.raises(ValueError, match="state is not finite"):
        jacobian(layer, lambda: layer(x * torch.nan))
