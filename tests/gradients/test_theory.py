"""Predicted curves against measured ones, on seeds of the tests' own, and against each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import carousel
from carousel import cells
from carousel.gradients import flow, theory
from carousel.initialization import Chrono, ForgetBias, Orthogonal


def measured(make, lags, inputs=2, drive=0.1, seeds=8, batch=8):
    """The root mean square over layers and sequences of each norm relative to lag 0: decimal logarithms by state."""
    curves = []
    for seed in range(1000, 1000 + seeds):
        torch.manual_seed(seed)
        layer = make()
        x, w = drive * torch.randn(lags + 100, batch, inputs), torch.randn(batch, layer.hidden_size)
        with torch.no_grad():
            _, hx = layer(x[:100])  # until states are what they stay like
        curves.append(flow(layer, lambda layer=layer, x=x[100:], hx=hx, w=w: (layer(x, hx)[0][-1] * w).sum())[0].rms())
    return {s: torch.stack([10 ** (2 * (c[s] - c[s][0])) for c in curves]).mean(0).log10() / 2 for s in curves[0]}


def assert_agree(curve, expected, tolerances):
    for lag, tolerance in tolerances.items():
        ratio = 10 ** float(curve[lag] - expected[lag])
        assert ratio == pytest.approx(1, abs=tolerance), f"lag {lag}"


TOLERANCES = {1: 0.03, 5: 0.03, 10: 0.03, 20: 0.08, 40: 0.20}


@pytest.mark.parametrize(
    ("gain", "orthogonal"), [(1.0, False), (1.3, False), (theory.TORCH_GAIN, False), (1.0, True), (1.3, True)]
)
def test_rates_of_the_rnn(gain, orthogonal):
    def make():
        layer = carousel.RNN(64, 256, bias=False, init=Orthogonal(gain) if orthogonal else ())
        if not orthogonal:
            torch.nn.init.normal_(layer.weight_hh_l0, std=gain / 16)
        return layer

    lags = 21
    curve = measured(make, lags, inputs=64, drive=1.0, seeds=6)["h"]
    rate = 10 ** float(curve[lags - 1] / (lags - 1))
    assert rate == pytest.approx(theory.rnn_growth(gain, 64 / (3 * 256)), rel=0.025)
    predicted = theory.rnn(lags, gain, 64 / (3 * 256))
    assert_agree(curve, predicted, {lag: 1.025**lag - 1 for lag in (1, 5, 10, 20)})


def with_biases(layer, **biases):
    with torch.no_grad():
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
        for gate, value in biases.items():
            layer.bias_ih_l0[layer.cell().rows(gate)] = value
    return layer


@pytest.mark.parametrize(
    "biases", [{}, {"f": 1.0}, {"f": -1.0, "i": 1.0}, {"f": 0.5, "i": -1.0, "o": 1.0}], ids=lambda b: str(b)
)
def test_curves_of_the_lstm(biases):
    curve = measured(lambda: with_biases(carousel.LSTM(2, 384), **biases), 41)["c"]
    expected = theory.lstm(41, biases.get("f", 0), biases.get("i", 0), biases.get("o", 0))
    assert_agree(curve, expected, TOLERANCES)


@pytest.mark.parametrize("biases", [{}, {"z": 1.0}, {"z": 2.0, "r": 1.0}, {"z": -1.0, "r": -1.0}], ids=lambda b: str(b))
def test_curves_of_the_gru(biases):
    curve = measured(lambda: with_biases(carousel.GRU(2, 384), **biases), 41)["h"]
    assert_agree(curve, theory.gru(41, biases.get("z", 0), biases.get("r", 0)), TOLERANCES)


def test_curve_of_chrono():
    curve = measured(lambda: carousel.LSTM(2, 256, init=Chrono(200)), 201, seeds=4)["c"]
    assert_agree(curve, theory.chrono(201, 200), dict.fromkeys((1, 10, 20, 40, 100, 150, 200), 0.08))


def test_chrono_without_gates_is_the_carousel():
    torch.manual_seed(0)
    f = torch.empty(400_000, dtype=torch.float64).uniform_(1, 49).log().sigmoid()
    for lag in (1, 5, 20, 60):
        expected = (f ** (2 * lag)).mean().sqrt()
        assert 10 ** float(theory.chrono(61, 50, gain=0)[lag]) == pytest.approx(float(expected), rel=0.01)
    assert (theory.chrono(61, 50) - theory.chrono(61, 50, gain=0))[1:].gt(0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: carousel.LSTM(2, 256),
        lambda: carousel.LSTM(2, 256, init=ForgetBias(1.0)),
        lambda: carousel.LSTM(2, 256, peephole=True, coupled=True),
        lambda: carousel.GRU(2, 256),
        lambda: carousel.RNN(2, 256, init=Orthogonal(0.9)),
        lambda: carousel.Recurrent(cells.MGUCell, 2, 256),
        lambda: carousel.Recurrent(cells.HighwayCell, 2, 256),
    ],
    ids=["lstm", "forget1", "variant", "gru", "rnn", "mgu", "highway"],
)
def test_any_cell_linearised_is_predicted_in_every_state(make):
    """With torch's random biases, all states, and no formula for the cell; past lag 10 layers scatter too much."""
    curves = measured(make, 11)
    predicted = theory.linearise(make().cell()).curves(11)
    assert set(predicted) == set(curves)
    for name, curve in curves.items():
        assert_agree(curve, predicted[name], dict.fromkeys((1, 2, 5), 0.05) | {10: 0.12})


@settings(max_examples=25, deadline=None)
@given(f=st.floats(-3, 3), i=st.floats(-3, 3), o=st.floats(-3, 3))
def test_the_formula_of_the_lstm_is_a_case_of_the_general_one(f, i, o):
    torch.manual_seed(0)
    layer = with_biases(carousel.LSTM(2, 16, dtype=torch.float64), f=f, i=i, o=o)
    linear = theory.linearise(layer.cell())
    gain = float(linear.variance[2].sqrt())
    curve = linear.curves(30)["c"]
    torch.testing.assert_close(curve, theory.lstm(30, f, i, o, gain), rtol=0, atol=1e-9)
    sigmoid = torch.tensor([f, i, o], dtype=torch.float64).sigmoid()
    assert linear.growth() == pytest.approx(float(sigmoid[0] + sigmoid[1] * sigmoid[2] * gain), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(z=st.floats(-3, 3), r=st.floats(-3, 3))
def test_the_formula_of_the_gru_is_a_case_of_the_general_one(z, r):
    layer = with_biases(carousel.GRU(2, 16, dtype=torch.float64), z=z, r=r)
    linear = theory.linearise(layer.cell())
    curve = linear.curves(30)["h"]
    gain = float(linear.variance[2].sqrt())
    torch.testing.assert_close(curve, theory.gru(30, z, r, gain), rtol=0, atol=1e-9)
    assert linear.growth() < 1


def test_the_growth_is_the_spectral_radius_of_the_jacobian():
    """Of units that all differ, as under chrono initialisation."""
    torch.manual_seed(5)
    layer = carousel.LSTM(2, 600, init=Chrono(20), dtype=torch.float64)
    cell, x = layer.cell(), torch.zeros(1, 2, dtype=torch.float64)
    with torch.no_grad():
        state = cell.initial_state(x)
        for _ in range(200):
            state = cell(x, state)
        blocks = torch.autograd.functional.jacobian(lambda h, c: cell(x, (h, c)), tuple(state), vectorize=True)
    matrix = torch.cat([torch.cat([b[0, :, 0] for b in row], 1) for row in blocks])
    radius = torch.linalg.eigvals(matrix).abs().max()
    assert theory.linearise(cell).growth() == pytest.approx(float(radius), rel=0.01)


def test_the_edge_is_where_the_growth_is_one():
    assert theory.lstm_edge() == pytest.approx(1.78, abs=0.005)
    layer = with_biases(carousel.LSTM(2, 512), f=theory.lstm_edge(), i=0.0)
    assert theory.linearise(layer.cell()).growth() == pytest.approx(1, abs=0.002)
    assert theory.lstm_edge(gain=4.0) == -math.inf
    assert theory.lstm_edge(gain=0.0) == math.inf
    assert theory.rnn_growth(1.0, 0.0) == pytest.approx(1, abs=0.002)
    assert theory.rnn_growth(0.9, 0.0) == pytest.approx(0.9, abs=1e-6)
    assert theory.rnn_growth(3.0, 0.0) > 1 > theory.rnn_growth(1.0, 0.5)


def test_powers_of_one_matrix_are_not_products_of_many():
    torch.manual_seed(0)
    size, a, b, lags = 800, 0.5, 0.3, 13
    fixed, new = torch.randn(2, size, 4).double().unbind()
    start = fixed.norm(), new.norm()
    g = torch.randn(size, size).double() / math.sqrt(size)
    for _ in range(lags - 1):
        fixed = a * fixed + b * g @ fixed
        new = a * new + b * (torch.randn(size, size).double() / math.sqrt(size)) @ new
    predicted = theory.tied(lags, a, b)[-1]
    assert math.log10(fixed.norm() / start[0]) == pytest.approx(float(predicted), abs=math.log10(1.05))
    assert math.log10(new.norm() / start[1]) == pytest.approx(
        (lags - 1) * math.log10(a**2 + b**2) / 2, abs=math.log10(1.05)
    )
    assert math.log10(fixed.norm() / new.norm()) > 0.4


def test_a_constant_input_moves_the_point_of_rest():
    torch.manual_seed(0)
    cell = carousel.RNN(2, 64).cell()
    assert theory.linearise(cell, torch.tensor([30.0, 0.0])).growth() < 0.7 * theory.linearise(cell).growth()


def test_what_cannot_be_linearised_is_refused():
    for cell in (
        carousel.LSTM(2, 8, proj_size=3).cell(),
        carousel.LSTM(2, 8, layer_norm=True).cell(),
        carousel.Recurrent(cells.IndRNNCell, 2, 8).cell(),
    ):
        with pytest.raises(ValueError, match="linearise needs"):
            theory.linearise(cell)
    torch.manual_seed(0)
    restless = carousel.RNN(2, 100, init=Orthogonal(3.0)).cell()
    with pytest.raises(ValueError, match="comes to rest"):
        theory.linearise(restless)

    class Halved(type(carousel.RNN(1, 1).cell())):
        def hidden_map(self, h):
            return super().hidden_map(0.5 * h)

    for cell in (Halved(2, 8), cells.ChoGRUCell(2, 8), cells.MultiplicativeLSTMCell(2, 8)):
        with pytest.raises(ValueError, match="around one recurrent matrix"):
            theory.linearise(cell)
    with pytest.raises(ValueError, match="t_max must be at least 2"):
        theory.chrono(5, 1)
    with pytest.raises(ValueError, match=r"x should have the shape \(2,\), got \(3,\)"):
        theory.linearise(carousel.RNN(2, 8).cell(), torch.zeros(3))


def test_it_works_without_gradients_and_with_parametrised_weights():
    torch.manual_seed(0)
    layer = carousel.RNN(2, 16)
    with torch.no_grad():
        growth = theory.linearise(layer.cell()).growth()
    torch.nn.utils.parametrizations.spectral_norm(layer, "weight_hh_l0")
    assert 0 < theory.linearise(layer.cell()).growth() < growth + 1
