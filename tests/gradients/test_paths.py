"""The split of the gradient against the gates' own product, and against what training with detached ways does."""

import functools

import pytest
import torch
from agreement import fill, needs_compiler

import carousel
from carousel import Detach, Regularization, cells
from carousel.gradients import flow, jacobian, lyapunov, paths


def layer_and_input(seed=0, kind=carousel.LSTM, size=6, **options):
    torch.manual_seed(seed)
    return kind(3, size, dtype=torch.float64, **options), torch.randn(12, 4, 3, dtype=torch.float64)


def test_the_carousel_of_an_lstm_is_the_product_of_its_forget_gates():
    layer, x = layer_and_input()
    w = torch.randn(4, 6, dtype=torch.float64)
    (split,) = paths(layer, lambda: (layer(x)[0][-1] * w).sum())
    (seen,) = layer.inspect(x)
    gradient = w * seen["o"][-1] * (1 - seen["c"][-1].tanh().square())  # with respect to the last c
    for lag in range(12):
        torch.testing.assert_close(split.carousel.log10_norm["c"][lag], gradient.norm(dim=-1).log10())
        gradient = gradient * seen["f"][-1 - lag]
    assert split.carousel.log10_norm["h"][1:].eq(-torch.inf).all()


def test_the_gates_alone_are_the_way_through_the_hidden_map():
    layer, x = layer_and_input(1)
    w = torch.randn(4, 6, dtype=torch.float64)
    (split,) = paths(layer, lambda: (layer(x)[0][-1] * w).sum())
    cell, states = layer.cell(), []
    state = cell.initial_state(x[0])
    for x_t in x:
        state, _ = cell.update(cell.input_map(x_t), cell.hidden_map(state[0]), (state[0], state[1].detach()))
        states.append(state)
    gradients = torch.autograd.grad((states[-1][0] * w).sum(), [c for _, c in states])
    expected = torch.stack([g.norm(dim=-1).log10() for g in gradients]).flip(0)
    torch.testing.assert_close(split.gates.log10_norm["c"], expected)


@pytest.mark.parametrize(
    "kind",
    [
        *("LSTMCell", "GRUCell", "RNNCell", "MGUCell"),
        *("ChoGRUCell", "SLSTMCell", "LEMCell", "MultiplicativeLSTMCell"),  # with several products
    ],
)
def test_the_total_is_that_of_flow(kind):
    layer, x = layer_and_input(2, functools.partial(carousel.Recurrent, getattr(cells, kind)))
    fill(layer)  # an sLSTM's recurrent matrix begins with zeros

    def loss():
        return layer(x)[0].square().sum()

    (split,), (measured,) = paths(layer, loss), flow(layer, loss)
    for name, norm in measured.log10_norm.items():
        torch.testing.assert_close(split.total.log10_norm[name], norm, rtol=0, atol=1e-12)
        if name != "m":  # an sLSTM's stabiliser, which is detached
            assert (split.carousel.log10_norm[name][3:] != norm[3:]).all()


def test_a_vanilla_rnn_has_no_carousel():
    layer, x = layer_and_input(3, carousel.RNN)
    (split,) = paths(layer, lambda: layer(x)[0][-1].sum())
    assert split.carousel.log10_norm["h"][1:].eq(-torch.inf).all()
    torch.testing.assert_close(split.gates.log10_norm, split.total.log10_norm)


def gradients(layer, x):
    layer.zero_grad()
    layer(x)[0][-1].square().sum().backward()
    return {name: p.grad.clone() for name, p in layer.named_parameters()}


@pytest.mark.parametrize(("detach", "which"), [(Detach(gates=1), "carousel"), (Detach(carousel=1), "gates")])
def test_what_is_detached_in_training_is_what_the_measure_shows(detach, which):
    layer, x = layer_and_input(4)
    cut, _ = layer_and_input(4, detach=detach)

    def of(layer):
        return lambda: layer(x)[0][-1].square().sum()

    torch.testing.assert_close(layer(x)[0], cut(x)[0])
    expected = getattr(paths(layer, of(layer))[0], which)
    for name, norm in flow(cut, of(cut))[0].log10_norm.items():
        torch.testing.assert_close(norm, expected.log10_norm[name])
    torch.testing.assert_close(paths(cut, of(cut))[0].total.log10_norm, flow(layer, of(layer))[0].log10_norm)


def test_truncated_gradients_are_those_of_hochreiter_and_schmidhuber():
    """The carousel alone: what each step adds to a weight, carried by the forget gates only."""
    layer, x = layer_and_input(5, detach=Detach(gates=1))
    found = gradients(layer, x)
    (seen,) = layer.inspect(x)
    h = torch.cat([torch.zeros_like(seen["h"][:1]), seen["h"][:-1]])
    gradient = 2 * seen["h"][-1] * seen["o"][-1] * (1 - seen["c"][-1].tanh().square())
    expected = 0
    for t in reversed(range(12)):
        d_g = gradient * seen["i"][t] * (1 - seen["g"][t].square())
        expected = expected + d_g.mT @ h[t]
        gradient = gradient * seen["f"][t]
    torch.testing.assert_close(found["weight_hh_l0"][12:18], expected)  # the rows of g


CALLS = {
    "plain": ({}, {}),
    "lengths, both directions, two layers": ({"bidirectional": True, "num_layers": 2}, {"lengths": [12, 7, 3, 1]}),
    "recurrent dropout and zoneout": ({"regularization": Regularization(recurrent=0.3, zoneout=0.2)}, {}),
    "resets": ({}, {"reset": torch.arange(48).view(12, 4) % 5 == 0}),
}


@needs_compiler
@pytest.mark.parametrize("detach", [Detach(gates=1), Detach(carousel=1), Detach(1, 1)], ids=str)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((name, "plain") for name in ("RNNCell", "IndRNNCell", "JANETCell", "MGUCell")),
        *((name, call) for name in ("LSTMCell", "GRUCell", "projected") for call in CALLS),
    ],
)
def test_the_kernel_detaches_as_the_loop_does(name, call, detach):
    options, arguments = CALLS[call]
    options = options | ({"proj_size": 4} if name == "projected" else {})
    kind, found = getattr(cells, "LSTMCell" if name == "projected" else name), []
    for backend in ("eager", "fused"):
        torch.manual_seed(7)
        layer = carousel.Recurrent(kind, 3, 6, dtype=torch.float64, backend=backend, detach=detach, **options)
        x = torch.randn(12, 4, 3, dtype=torch.float64, requires_grad=True)
        y, last = layer(x, **arguments)
        (y.square().sum() + sum(s.sum() for s in (last if isinstance(last, tuple) else (last,)))).backward()
        found.append([y, x.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


def test_stacked_layers_are_attached_for_the_measure_throughout():
    found = []
    for detach in (Detach(), Detach(gates=1)):
        layer, x = layer_and_input(8, num_layers=2, detach=detach)
        found.append(paths(layer, lambda layer=layer, x=x: layer(x)[0][-1].square().sum()))
    for whole, cut in zip(*found, strict=True):
        for way in ("total", "carousel", "gates"):
            torch.testing.assert_close(getattr(whole, way).log10_norm, getattr(cut, way).log10_norm)


def test_what_is_detached_is_the_gradient_and_not_the_map():
    found = []
    for detach in (Detach(), Detach(gates=1), Detach(carousel=1)):
        layer, x = layer_and_input(9, detach=detach)
        exponents = lyapunov(layer, lambda layer=layer, x=x: layer(x))
        singular = jacobian(layer, lambda layer=layer, x=x: layer(x), 3)[0].log10_singular
        found.append((exponents, singular))
    torch.testing.assert_close(found[1], found[0], equal_nan=True)
    torch.testing.assert_close(found[2], found[0], equal_nan=True)


def test_nothing_is_drawn_where_there_is_no_gradient():
    layer, x = layer_and_input(10, detach=Detach(gates=0.5))
    layer.eval()
    stream = torch.get_rng_state()
    with torch.no_grad():
        layer(x)
    assert torch.equal(stream, torch.get_rng_state())


@pytest.mark.parametrize("detach", [0.5, "gates", {"gates": 1}])
def test_anything_but_a_detach_is_refused(detach):
    with pytest.raises(TypeError, match=r"detach should be a carousel\.Detach, got"):
        carousel.LSTM(2, 3, detach=detach)


def test_h_detach_bars_the_gates_in_a_share_of_the_steps():
    torch.manual_seed(0)
    drawn = Detach(gates=0.25).masks(20_000)
    assert drawn["detach_carousel"] is False
    assert drawn["detach_gates"].float().mean() == pytest.approx(0.25, abs=0.01)
    layer, x = layer_and_input(6, detach=Detach(gates=0.5))
    whole, _ = layer_and_input(6)
    torch.testing.assert_close(layer(x)[0], whole(x)[0])
    torch.manual_seed(1)
    first, second = gradients(layer, x), gradients(layer, x)
    assert not torch.allclose(first["weight_hh_l0"], second["weight_hh_l0"])
    never, _ = layer_and_input(6, detach=Detach(gates=0.0))
    torch.testing.assert_close(gradients(never, x), gradients(whole, x))


@pytest.mark.parametrize("name", ["gates", "carousel"])
@pytest.mark.parametrize("value", [-0.1, 1.5, "half", None])
def test_impossible_probabilities_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} should be a probability in range"):
        Detach(**{name: value})


def test_a_cell_with_a_forward_of_its_own_cannot_be_split():
    class Own(carousel.RNN(1, 1).cell().__class__):
        def forward(self, input, hx=None):
            return super().forward(input, hx)

    layer = carousel.Recurrent(Own, 3, 4)
    with pytest.raises(ValueError, match="detaching needs a hidden map; Own has a forward of its own"):
        paths(layer, lambda: layer(torch.randn(5, 2, 3))[0].sum())


def test_torch_has_no_detach():
    with pytest.raises(ValueError, match=r"torch\.nn has no detach"):
        carousel.LSTM(2, 3, detach=Detach(gates=1)).to_torch()
