"""The layer against its twin in torch.nn."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from twins import LAYERS, assert_same_with_gradients

import carousel

SIZES = st.integers(1, 6)


def make_twins(name, inputs=3, hidden=4, dtype=torch.float64, **more):
    ours_type, theirs_type, options = LAYERS[name]
    ours = ours_type(inputs, hidden, dtype=dtype, **options, **more)
    theirs = theirs_type(inputs, hidden, dtype=dtype, **options, **more)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(1, 12),
    batch=SIZES,
    inputs=SIZES,
    hidden=SIZES,
    bias=st.booleans(),
    batch_first=st.booleans(),
    batched=st.booleans(),
    with_state=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_outputs_states_and_all_gradients_equal_torchs(
    name, steps, batch, inputs, hidden, bias, batch_first, batched, with_state, seed
):
    torch.manual_seed(seed)
    ours, theirs = make_twins(name, inputs, hidden, bias=bias, batch_first=batch_first)
    shape = (batch, steps, inputs) if batch_first else (steps, batch, inputs)
    x = torch.randn(shape if batched else (steps, inputs), dtype=torch.float64)
    size = (1, batch, hidden) if batched else (1, hidden)
    state = tuple(torch.randn(size, dtype=torch.float64) for _ in ours.cell().states)
    given_state = (state if len(state) > 1 else state[0],) if with_state else ()
    assert_same_with_gradients(ours, theirs, x, *given_state)


@pytest.mark.parametrize("name", LAYERS)
def test_a_long_sequence_in_float32_stays_near_float64(name):
    ours, theirs = make_twins(name, 8, 32, dtype=torch.float32)
    x = torch.randn(300, 4, 8)
    exact = copy.deepcopy(theirs).double()(x.double())[0]
    error = (ours(x)[0] - exact).abs().max()
    assert error <= 4 * (theirs(x)[0] - exact).abs().max() + 1e-6


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_seed_gives_the_same_weights_as_torch(name):
    ours_type, theirs_type, options = LAYERS[name]
    torch.manual_seed(5)
    ours = ours_type(3, 4, **options)
    torch.manual_seed(5)
    theirs = theirs_type(3, 4, **options)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    theirs.load_state_dict(carousel.from_torch(theirs).state_dict())
    ours.reset_parameters()
    assert not torch.equal(ours.weight_hh_l0, theirs.weight_hh_l0)


@pytest.mark.parametrize("name", LAYERS)
def test_from_torch_is_a_view_of_the_same_weights(name):
    _, theirs = make_twins(name)
    twin = carousel.from_torch(theirs)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight_hh_l0.mul_(0.5)
    torch.testing.assert_close(twin(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)
    assert carousel.from_torch(twin) is twin


def test_from_torch_says_what_it_cannot_convert():
    with pytest.raises(ValueError, match="only one layer"):
        carousel.from_torch(nn.LSTM(2, 3, num_layers=2))
    with pytest.raises(TypeError, match=r"expected torch\.nn\.LSTM, GRU or RNN, got Linear"):
        carousel.from_torch(nn.Linear(2, 3))


def test_inspect_gives_the_gates_of_every_step():
    layer = carousel.LSTM(3, 4, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    seen = layer.inspect(x)
    assert set(seen) == {"i", "f", "g", "o", "h", "c"}
    before = torch.cat([torch.zeros(2, 1, 4, dtype=torch.float64), seen["c"][:, :-1]], 1)
    torch.testing.assert_close(seen["c"], seen["f"] * before + seen["i"] * seen["g"])
    torch.testing.assert_close(seen["h"], seen["o"] * seen["c"].tanh())
    torch.testing.assert_close(seen["h"], layer(x)[0])


def test_a_cell_borrowed_from_the_layer_steps_with_the_layers_weights():
    layer = carousel.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    state = None
    for x_t in x:
        state = layer.cell()(x_t, state)
    torch.testing.assert_close(state[0], layer(x)[0][-1])
    state[0].sum().backward()
    assert layer.weight_hh_l0.grad.abs().sum() > 0


def test_copies_and_pickles_are_whole_and_independent():
    layer = carousel.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    expected = layer(x)[0]
    for clone in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(clone(x)[0], expected)
        with torch.no_grad():
            clone.weight_hh_l0.zero_()
        assert torch.equal(layer(x)[0], expected)
        assert not torch.equal(clone(x)[0], expected)


def test_it_compiles_as_one_graph():
    layer = carousel.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


def test_functional_call_and_parametrization_reach_the_weights():
    layer = carousel.RNN(2, 3)
    x = torch.randn(4, 1, 2)
    zeros = {name: torch.zeros_like(p) for name, p in layer.named_parameters()}
    assert torch.equal(torch.func.functional_call(layer, zeros, (x,))[0], torch.zeros(4, 1, 3))
    nn.utils.parametrizations.orthogonal(layer, "weight_hh_l0")
    torch.testing.assert_close(layer.cell().weight_hh @ layer.cell().weight_hh.T, torch.eye(3))
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_hh_l0.original.grad is not None


def test_bad_input_is_refused():
    layer = carousel.LSTM(3, 4)
    with pytest.raises(ValueError, match="LSTM: Expected input to be 2D or 3D, got 1D instead"):
        layer(torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"must be equal to input_size\. Expected 3, got 2"):
        layer(torch.zeros(5, 1, 2))
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        layer(torch.zeros(0, 1, 3))
    with pytest.raises(RuntimeError, match=r"Expected c to have size \[1, 2, 4\], got \[1, 1, 4\]"):
        layer(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 1, 4)))
    with pytest.raises(RuntimeError, match="Expected 2 states"):
        layer(torch.zeros(5, 2, 3), torch.zeros(1, 2, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", LAYERS)
def test_on_a_gpu(name):
    ours, theirs = make_twins(name)
    assert_same_with_gradients(ours.cuda(), theirs.cuda(), torch.randn(6, 2, 3, dtype=torch.float64, device="cuda"))
