"""From torch's modules to ours on the same memory, and back."""

import copy

import pytest
import torch
from agreement import CELLS, LAYERS, assert_same_with_gradients
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import carousel

PAIRS = {f"{name} layer": (theirs, options) for name, (_, theirs, options) in LAYERS.items()}
PAIRS |= {f"{name} cell": (theirs, options) for name, (_, theirs, options) in CELLS.items()}
PAIRS["lstm projected"] = (nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True})


def sample(*shape):
    return torch.randn(*shape, 3, dtype=torch.float64)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("frozen", [(), (0,), (1, 2), (0, 1, 2, 3)])
def test_a_twin_shares_the_parameters_and_changes_nothing(name, frozen):
    kind, options = PAIRS[name]
    theirs = kind(3, 4, dtype=torch.float64, **options)
    for k, parameter in enumerate(theirs.parameters()):
        parameter.requires_grad_(k not in frozen)
    before = {key: (id(p), p.requires_grad, p._version) for key, p in theirs.named_parameters()}
    draws = torch.get_rng_state()
    twin = carousel.from_torch(theirs)
    back = twin.to_torch() if "projected" not in name or isinstance(twin, carousel.Recurrent) else None
    assert torch.equal(torch.get_rng_state(), draws)
    assert {key: (id(p), p.requires_grad, p._version) for key, p in theirs.named_parameters()} == before
    assert {key: id(p) for key, p in twin.named_parameters()} == {key: state[0] for key, state in before.items()}
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in theirs.parameters()]
    assert not {p.data_ptr() for p in back.parameters()} & {p.data_ptr() for p in theirs.parameters()}
    assert repr(back) == repr(theirs)
    theirs.requires_grad_()
    x = sample(2) if isinstance(twin, carousel.Cell) else sample(5, 2)
    assert_same_with_gradients(twin, theirs, x)


def test_what_is_tied_stays_tied():
    theirs = nn.LSTM(3, 3, 2, bidirectional=True, dtype=torch.float64)
    theirs.weight_hh_l0 = theirs.weight_ih_l0
    theirs.bias_ih_l0_reverse = theirs.bias_ih_l0
    twin = carousel.from_torch(theirs)
    for module in (twin, twin.to_torch(), copy.deepcopy(twin)):
        assert module.weight_hh_l0 is module.weight_ih_l0
        assert module.bias_ih_l0_reverse is module.bias_ih_l0
        assert_same_with_gradients(module, theirs, sample(5, 2))


def test_a_parametrized_module_and_its_twin_share_what_the_weight_is_made_of():
    theirs = parametrizations.weight_norm(nn.GRU(3, 4, 2, dtype=torch.float64), "weight_hh_l1")
    parametrizations.orthogonal(theirs, "weight_hh_l0")
    twin, x = carousel.from_torch(theirs), sample(5, 2)
    with torch.no_grad():
        theirs.parametrizations.weight_hh_l1.original0.mul_(3)
    assert_same_with_gradients(twin, theirs, x)
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert type(twin.to_torch()) is nn.GRU
    torch.testing.assert_close(twin.to_torch()(x)[0], theirs(x)[0])
    cell = parametrizations.weight_norm(nn.GRUCell(3, 4, dtype=torch.float64), "weight_hh")
    torch.testing.assert_close(carousel.from_torch(cell).to_torch()(x[0]), cell(x[0]))


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm, lambda m, n: prune.l1_unstructured(m, n, 0.3)])
def test_a_weight_that_a_hook_keeps_is_the_twins_too(norm):
    theirs, x = nn.GRU(3, 4, dtype=torch.float64), sample(5, 2)
    norm(theirs, "weight_hh_l0")
    theirs.eval()
    twin = carousel.from_torch(theirs)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "weight_hh" in name:
                parameter.mul_(torch.rand_like(parameter))
    assert_same_with_gradients(twin, theirs, x)
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    cell = nn.GRUCell(3, 4, dtype=torch.float64).eval()
    norm(cell, "weight_hh")
    torch.testing.assert_close(carousel.from_torch(cell).to_torch()(x[0]), cell(x[0]))


def test_subclasses_of_torchs_modules():
    class Mine(nn.LSTM):
        pass

    class Other(nn.LSTM):
        def forward(self, input, hx=None):
            return super().forward(2 * input, hx)

    theirs = Mine(3, 4, dtype=torch.float64)
    assert_same_with_gradients(carousel.from_torch(theirs), theirs, sample(5, 2))
    with pytest.raises(TypeError, match=r"Other has another forward than torch\.nn\.LSTM, which it extends"):
        carousel.from_torch(Other(3, 4))


def test_mode_and_modules_of_the_original_stay():
    theirs = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0").eval()
    theirs.parametrizations.train()
    twin = carousel.from_torch(theirs)
    assert not twin.training
    assert not theirs.training
    assert theirs.parametrizations.training


def test_the_size_of_the_output():
    for layer in (
        carousel.LSTM(3, 4, bidirectional=True),
        carousel.GRU(3, [4, 5], 2),
        carousel.LSTM(3, 4, proj_size=2, bidirectional=True),
    ):
        assert layer(torch.zeros(2, 1, 3))[0].size(-1) == layer.output_size


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_a_parametrized_layer_is_explained_and_inspected(norm):
    layer, x = norm(carousel.LSTM(3, 4, dtype=torch.float64), "weight_hh_l0"), sample(5, 2)
    assert len(carousel.explain(layer, x)) == 1
    (seen,) = layer.inspect(x)
    torch.testing.assert_close(seen["h"], layer(x)[0])


def test_a_compiled_layer_is_explained_and_left_as_it_is():
    layer = carousel.LSTM(3, 4, backend="fused", dtype=torch.float64)
    assert carousel.explain(torch.compile(layer, backend="eager"), sample(5, 2))
    assert layer.backend == "fused"
