import math

import pytest
import torch

import carousel
from carousel.initialization import Chrono, ForgetBias, Orthogonal


def forget_bias(layer):
    cell = layer.cell()
    return (cell.bias_ih + cell.bias_hh)[cell.rows(cell.keep_gate)].detach()


@pytest.mark.parametrize("layer_type", [carousel.LSTM, carousel.GRU])
def test_forget_bias_is_the_sum_of_torchs_two_biases(layer_type):
    layer = layer_type(2, 16, init=ForgetBias(1.5))
    assert torch.equal(forget_bias(layer), torch.full((16,), 1.5))


def test_forget_bias_leaves_everything_else_as_torch_draws_it():
    torch.manual_seed(0)
    plain = carousel.LSTM(2, 4)
    torch.manual_seed(0)
    biased = carousel.LSTM(2, 4, init=ForgetBias(1.0))
    for name, parameter in plain.named_parameters():
        rows = [k for k in range(16) if not ("bias" in name and 4 <= k < 8)]
        assert torch.equal(parameter[rows], getattr(biased, name)[rows])


def test_chrono_spreads_the_timescales_uniformly():
    """b_f = log U(1, T-1), so that 1 + exp(b_f), the mean lifetime 1 / (1 - sigmoid(b_f)), is uniform on (2, T)."""
    layer = carousel.LSTM(2, 20_000, init=Chrono(100), device="cpu")
    lifetime = 1 / (1 - forget_bias(layer).double().sigmoid())
    assert lifetime.min() >= 2 - 1e-6
    assert lifetime.max() <= 100 + 1e-3
    quantiles = lifetime.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    torch.testing.assert_close(quantiles, 2 + 98 * torch.tensor([0.1, 0.5, 0.9]).double(), rtol=0.05, atol=0.5)
    cell = layer.cell()
    assert torch.equal((cell.bias_ih + cell.bias_hh)[cell.rows("i")], -forget_bias(layer))


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_orthogonal_makes_every_gates_matrix_orthogonal(gain):
    layer = carousel.GRU(2, 8, init=Orthogonal(gain), dtype=torch.float64)
    for gate in ("r", "z", "n"):
        U = layer.cell().weight_hh[layer.cell().rows(gate)]
        torch.testing.assert_close(U @ U.T, gain**2 * torch.eye(8, dtype=torch.float64))


def test_initializers_compose_and_run_again_on_reset():
    layer = carousel.LSTM(2, 8, init=(Orthogonal(), ForgetBias(2.0)))
    before = layer.weight_hh_l0.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.weight_hh_l0)
    assert torch.equal(forget_bias(layer), torch.full((8,), 2.0))


def test_an_initializer_that_does_not_apply_says_so():
    with pytest.raises(ValueError, match="ForgetBias needs a cell with a gate that keeps the old state; RNNCell has"):
        carousel.RNN(2, 3, init=ForgetBias())
    with pytest.raises(ValueError, match="Chrono needs bias=True"):
        carousel.LSTM(2, 3, bias=False, init=Chrono(10))
    with pytest.raises(ValueError, match="t_max must be at least 2, got 1"):
        Chrono(1)


def test_the_state_decays_by_the_forget_gate():
    """What the docstring of ForgetBias claims: at small activations c shrinks by sigmoid(b_f) per step."""
    layer = carousel.LSTM(1, 4, init=ForgetBias(1.0), dtype=torch.float64)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            getattr(layer, name).zero_()
        layer.bias_ih_l0[8:12] = layer.bias_hh_l0[8:12] = 0  # g = 0
    c0 = torch.ones(1, 1, 4, dtype=torch.float64)
    _, (_, c) = layer(torch.zeros(10, 1, 1, dtype=torch.float64), (0 * c0, c0))
    torch.testing.assert_close(c, c0 * (1 / (1 + math.exp(-1))) ** 10)
