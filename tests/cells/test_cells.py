"""Each cell against its twin in torch.nn, and against its own equations."""

import numpy as np
import pytest
import torch
from agreement import CELLS, assert_same_with_gradients, complaint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import carousel

pytestmark = pytest.mark.usefixtures("float64")
SIZES = st.integers(1, 7)


@pytest.mark.parametrize("name", CELLS)
@settings(max_examples=15, deadline=None)
@given(batch=SIZES, inputs=SIZES, hidden=SIZES, bias=st.booleans(), seed=st.integers(0, 2**16))
def test_a_step_equals_torchs_with_all_gradients(name, batch, inputs, hidden, bias, seed):
    ours_type, theirs_type, options = CELLS[name]
    torch.manual_seed(seed)
    theirs = theirs_type(inputs, hidden, bias=bias, dtype=torch.float64, **options)
    ours = ours_type(inputs, hidden, bias=bias, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict())
    state = tuple(torch.randn(batch, hidden, dtype=torch.float64) for _ in ours.states)
    hx = state if len(state) > 1 else state[0]
    assert_same_with_gradients(ours, theirs, torch.randn(batch, inputs, dtype=torch.float64), hx)
    assert_same_with_gradients(ours, theirs, torch.randn(inputs, dtype=torch.float64))  # one sequence, no state


@pytest.mark.parametrize("name", CELLS)
def test_the_same_seed_gives_torchs_weights_and_the_state_dict_goes_both_ways(name):
    ours_type, theirs_type, options = CELLS[name]
    torch.manual_seed(3)
    ours = ours_type(3, 5, **options)
    torch.manual_seed(3)
    theirs = theirs_type(3, 5, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, reference)
    other = theirs_type(3, 5, **options)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other.weight_hh, ours.weight_hh)
    assert repr(ours) == repr(theirs)


def test_the_lstm_in_the_notation_it_is_taught_in():
    """f = sigmoid(W_f [h, x] + b_f) and so on, with the candidate written as C tilde."""
    cell = carousel.LSTMCell(3, 4)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    W = torch.cat([cell.weight_hh, cell.weight_ih], 1)
    b = cell.bias_ih + cell.bias_hh
    hx = torch.cat([h, x], 1)
    W_i, W_f, W_C, W_o = W.split(4)
    b_i, b_f, b_C, b_o = b.split(4)
    i, f, o = ((hx @ w.T + v).sigmoid() for w, v in ((W_i, b_i), (W_f, b_f), (W_o, b_o)))
    C_tilde = (hx @ W_C.T + b_C).tanh()
    C = f * c + i * C_tilde
    new_h, new_c = cell(x, (h, c))
    torch.testing.assert_close(new_c, C)
    torch.testing.assert_close(new_h, o * C.tanh())


def test_the_error_on_the_carousel_is_the_forget_gate():
    """With h cut off, dc_t/dc_{t-1} = f_t exactly."""
    cell = carousel.LSTMCell(2, 3)
    c = torch.randn(1, 3, requires_grad=True)
    wx, uh = torch.randn(1, 12), torch.randn(1, 12)
    (_, after), gates = cell.update(wx, uh, (torch.zeros(1, 3), c))
    (gradient,) = torch.autograd.grad(after.sum(), c)
    torch.testing.assert_close(gradient, gates["f"])


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("sizes", [(3, 0), (0, 4), (np.int64(3), np.int64(4)), (True, 4)])
def test_sizes_that_torchs_cells_take(name, sizes):
    ours_type, theirs_type, options = CELLS[name]
    ours, theirs = ours_type(*sizes, **options), theirs_type(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    state = tuple(torch.randn(2, int(sizes[1])) for _ in ours.states)
    hx = state if len(state) > 1 else state[0]
    assert_same_with_gradients(ours, theirs, torch.randn(2, int(sizes[0])), hx)


def test_sizes_that_no_cell_has():
    with pytest.raises(ValueError, match="hidden_size must not be negative, got -1"):
        carousel.LSTMCell(4, -1)
    for make in (carousel.LSTMCell, nn.LSTM):
        with pytest.raises(TypeError, match="hidden_size should be of type int, got: float"):
            make(4, 2.0)


@pytest.mark.parametrize("name", CELLS)
def test_the_same_mistakes_in_a_step_get_the_same_errors(name):
    ours_type, theirs_type, options = CELLS[name]
    ours, theirs = (kind(2, 3, dtype=torch.float64, **options) for kind in (ours_type, theirs_type))
    states = len(ours.states)

    def hx(*shape):
        return torch.zeros(shape) if states == 1 else (torch.zeros(shape),) * states

    for arguments in (
        (torch.zeros(1, 1, 2),),
        (torch.zeros(5, 4),),
        (torch.zeros(5, 2), hx(1, 1, 3)),
        (torch.zeros(5, 2), hx(1, 3)),
        (torch.zeros(5, 2), hx(5, 1)),
        (torch.zeros(2), hx(4)),
        (torch.zeros(2), hx(1, 3)),
        (torch.zeros(5, 2), hx(3)),
    ):
        expected = complaint(lambda arguments=arguments: theirs(*arguments))
        assert expected is not None
        assert complaint(lambda arguments=arguments: ours(*arguments)) == expected


def test_what_torch_lets_pass_is_refused():
    with pytest.raises(RuntimeError, match="Expected 2 states"):
        carousel.LSTMCell(2, 3)(torch.zeros(5, 2), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="Unknown nonlinearity 'selu'"):
        carousel.RNNCell(2, 3, nonlinearity="selu")
