import contextlib
import math

import pytest
import torch
from torch import nn

import carousel
from carousel import cells
from carousel.gradients import gates
from carousel.initialization import Chrono, ForgetBias, Glorot, Identity, Orthogonal


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
    layer = carousel.LSTM(2, 6_000, init=Chrono(100), device="cpu")
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


KEEPERS = {
    "lstm": (carousel.LSTMCell, {}),
    "gru": (carousel.GRUCell, {}),
    "janet": (cells.JANETCell, {}),
    "mgu": (cells.MGUCell, {}),
    "highway": (cells.HighwayCell, {}),
    "coupled": (cells.LSTMVariantCell, {"coupled": True, "peephole": True}),
    "no input gate": (cells.LSTMVariantCell, {"without": ("input_gate",)}),
    "full gate recurrence": (cells.LSTMVariantCell, {"full_gate_recurrence": True}),
    "layer norm": (cells.LSTMVariantCell, {"layer_norm": True}),
    "layer norm, no bias": (cells.LSTMVariantCell, {"layer_norm": True, "bias": False}),
    "min gru": (cells.MinGRUCell, {}),
    "min lstm": (cells.MinLSTMCell, {}),
    "cho gru": (cells.ChoGRUCell, {}),
    "ugrnn": (cells.UGRNNCell, {}),
    "diagonal gru": (cells.DiagonalGRUCell, {}),
    "diagonal lstm": (cells.DiagonalLSTMCell, {}),
    "multiplicative lstm": (cells.MultiplicativeLSTMCell, {}),
}


def still(cell):
    """The cell, in which nothing but the biases of its gates reaches them."""
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if name.startswith(("weight", "gain")):
                parameter.zero_()
    return cell


def kept(cell):
    """What one step leaves of each unit of the old state, by autograd."""
    state = [torch.zeros(1, size, dtype=torch.float64, requires_grad=True) for size in cell.state_sizes]
    new, _ = still(cell).step(cell.input_map(torch.zeros(1, cell.input_size, dtype=torch.float64)), tuple(state))
    k = min(1, len(state) - 1)  # c, or else h
    (slope,) = torch.autograd.grad(new[k].sum(), state[k])
    return slope[0]


@pytest.mark.parametrize("name", KEEPERS)
@pytest.mark.parametrize("value", [1.0, -0.5])
def test_forget_bias_says_what_is_kept_in_every_cell_that_has_such_a_gate(name, value):
    kind, options = KEEPERS[name]
    cell = kind(2, 5, dtype=torch.float64, init=ForgetBias(value), **options)
    torch.testing.assert_close(kept(cell), torch.full((5,), value, dtype=torch.float64).sigmoid())


@pytest.mark.parametrize("name", KEEPERS)
def test_chrono_spreads_the_timescales_of_every_cell_that_has_such_a_gate(name):
    torch.manual_seed(0)
    kind, options = KEEPERS[name]
    layer = carousel.Recurrent(kind, 2, 400, dtype=torch.float64, init=Chrono(100), backend="eager", **options)
    lifetime = 1 / (1 - kept(layer.cell()))
    assert 2 <= lifetime.min() <= lifetime.max() <= 100
    assert lifetime.mean() == pytest.approx(51, abs=5)
    (seen,) = gates(layer, lambda: layer(torch.zeros(1, 1, 2, dtype=torch.float64)))
    torch.testing.assert_close(seen.timescales(), lifetime)


EVERY = [name for name in cells.__all__ if name not in ("ABLATIONS", "Cell", "ModuleCell")]


@pytest.mark.parametrize("name", EVERY)
def test_an_initializer_works_for_a_cell_or_is_refused(name):
    for init in (Orthogonal(), Identity(), Glorot(), ForgetBias(2.0), Chrono(100)):
        with contextlib.suppress(ValueError):
            cell = getattr(cells, name)(4, 4, init=init)
            biases = [getattr(cell, bias, None) for bias in ("bias_ih", "bias_hh")]
            if isinstance(init, Identity | Glorot):
                assert all(bias is None or not bias.any() for bias in biases)


@pytest.mark.parametrize("init", [ForgetBias(), Chrono(10)], ids=["ForgetBias", "Chrono"])
def test_without_a_gate_that_keeps_there_is_no_such_bias(init):
    for kind, options in (
        (cells.IndRNNCell, {}),
        (cells.LSTMVariantCell, {"without": ("forget_gate",)}),
        (cells.HighwayCell, {"depth": 2}),
    ):
        with pytest.raises(ValueError, match="needs a cell with a gate that keeps the old state"):
            kind(2, 3, init=init, **options)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (ForgetBias, r"the class ForgetBias; write ForgetBias\(\.\.\.\)"),
        ((Orthogonal, ForgetBias()), "the class Orthogonal"),
        ([ForgetBias(), "glorot"], "'glorot'"),
        ("orthogonal", "'orthogonal'"),
        (None, "None"),
        (1.0, r"1\.0"),
    ],
    ids=str,
)
def test_what_is_no_initializer_is_refused(init, message):
    for make in (carousel.LSTM, carousel.LSTMCell):
        with pytest.raises(TypeError, match=f"init should be an initializer, .*got {message}"):
            make(2, 3, init=init)


def test_arguments_of_initializers_are_numbers():
    with pytest.raises(TypeError, match="value should be a number, got 'abc'"):
        ForgetBias("abc")
    with pytest.raises(TypeError, match="t_max should be a number of steps, got None"):
        Chrono(None)


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 3, 3, 3), (3, 2, 3, 3)], ids=str)
def test_heads_are_matrices_of_their_own(shape):
    """3 gates and 2 heads of 3 units, however they are laid out."""

    class Heads(carousel.Cell):
        gates = ("a", "b", "c")

        def shapes(self):
            return super().shapes() | {"weight_hh": shape}

    eye = torch.eye(3, dtype=torch.float64)
    matrices = Heads(2, 6, dtype=torch.float64, init=Orthogonal(0.5)).weight_hh.detach().view(6, 3, 3)
    torch.testing.assert_close(matrices @ matrices.mT, (0.25 * eye).expand(6, 3, 3))
    matrices = Heads(2, 6, dtype=torch.float64, init=Identity(2.0)).weight_hh.detach().view(6, 3, 3)
    assert torch.equal(matrices, (2 * eye).expand(6, 3, 3))


def test_a_weight_that_is_no_matrix_is_refused():
    for init in (Orthogonal(), Identity()):
        with pytest.raises(ValueError, match=r"needs recurrent matrices.*IndRNNCell has the shape \(3, 1\)"):
            carousel.Recurrent(cells.IndRNNCell, 2, 3, init=init)


class Normed(carousel.Cell):
    """A cell with a module, and with a parameter and buffers of its author's own."""

    gates = ("a",)

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.norm = nn.LayerNorm(self.hidden_size)
        self.inner = nn.Sequential(nn.LayerNorm(self.hidden_size))
        self.scale = nn.Parameter(torch.full((self.hidden_size,), 3.0))
        self.register_buffer("count", torch.tensor(7))

    def update(self, wx, uh, state):
        return (self.inner(self.norm(wx + self.scale * uh)).tanh(),), {}


@pytest.mark.parametrize("make", [Normed, lambda *a: carousel.Recurrent(Normed, *a, 2)], ids=["cell", "layer"])
def test_reset_parameters_leaves_what_is_not_the_cells_to_its_owner(make):
    module = make(4, 4)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "scale" not in name:
                parameter.fill_(9.0)
    module.reset_parameters()
    for name, tensor in module.state_dict().items():
        if "ih" in name or "hh" in name:
            assert tensor.abs().max() <= 0.5
            assert not torch.equal(tensor, before[name])
        else:
            assert torch.equal(tensor, before[name]), name


def test_reset_parameters_starts_a_variant_as_it_was_made():
    layer = carousel.LSTM(2, 4, layer_norm=True, peephole=True, init=ForgetBias(2.0))
    torch.nn.init.constant_(layer.gain_hh_l0, 5.0)
    layer.reset_parameters()
    assert layer.gain_hh_l0.eq(1).all()
    assert layer.weight_ci_l0.eq(0).all()
    assert layer.shift_ih_l0.tolist() == [0.0] * 4 + [2.0] * 4 + [0.0] * 8
