"""The measure against autograd, against theory, and where autograd itself gives up."""

import copy
import math

import pytest
import torch
from torch import nn

import carousel
from carousel import cells
from carousel.gradients import Flow, decay_rate, flow, memory_length, watch


def brute_force(layer, x, weights):
    """The same gradients from one autograd graph over all steps."""
    cell, states, loss = layer.cell(), [], 0
    state = cell.initial_state(x[0])
    for x_t, w in zip(x, weights, strict=True):
        state, _ = cell.update(cell.input_map(x_t), cell.hidden_map(state[0]), state)
        states.append(state)
        loss = loss + (state[0] * w).sum()
    for k, name in enumerate(cell.states):
        gradients = torch.autograd.grad(loss, [s[k] for s in states], retain_graph=True)
        yield name, torch.stack([g.norm(dim=-1).log10() for g in gradients]).flip(0)


@pytest.mark.parametrize("layer_type", [carousel.RNN, carousel.LSTM, carousel.GRU])
@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_it_is_the_total_derivative(layer_type, every_step, batch_first):
    layer = layer_type(3, 8, dtype=torch.float64, batch_first=batch_first)
    x = torch.randn(20, 4, 3, dtype=torch.float64)
    weights = torch.randn(20, 4, 8, dtype=torch.float64)
    if not every_step:
        weights[:-1] = 0

    def loss():
        output, _ = layer(x.transpose(0, 1) if batch_first else x)
        return ((output.transpose(0, 1) if batch_first else output) * weights).sum()

    measured = flow(layer, loss)[0].log10_norm
    for name, expected in brute_force(layer, x, weights):
        torch.testing.assert_close(measured[name], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("theirs", "states"), [(nn.RNN, "h"), (nn.LSTM, "hc"), (nn.GRU, "h")])
def test_torchs_modules_are_measured_as_their_twins(theirs, states):
    module = theirs(3, 8, dtype=torch.float64)
    twin = carousel.from_torch(module)
    x = torch.randn(15, 4, 3, dtype=torch.float64)
    a = flow(module, lambda: module(x)[0][-1].pow(2).sum())[0].log10_norm
    b = flow(twin, lambda: twin(x)[0][-1].pow(2).sum())[0].log10_norm
    assert set(a) == set(states)
    for name in states:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-9)
        assert a[name].isfinite().all()  # what retain_grad would have given as zero


def test_the_loss_may_use_the_last_state_and_start_from_one():
    layer = carousel.LSTM(2, 5, dtype=torch.float64)
    x = torch.randn(6, 3, 2, dtype=torch.float64)
    hx = tuple(torch.randn(1, 3, 5, dtype=torch.float64) for _ in range(2))
    measured = flow(layer, lambda: layer(x, hx)[1][1].sum())[0].log10_norm  # c_T
    torch.testing.assert_close(measured["c"][0], torch.full((3,), math.log10(math.sqrt(5)), dtype=torch.float64))
    assert measured["h"][0].eq(-torch.inf).all()  # h_T does not take part
    cell, state = layer.cell(), tuple(s[0] for s in hx)
    leaf = None
    for x_t in x:
        state = cell(x_t, state)
        leaf = leaf if leaf is not None else state[1]
    (gradient,) = torch.autograd.grad(state[1].sum(), leaf)
    torch.testing.assert_close(measured["c"][-1], gradient.norm(dim=-1).log10())


def test_lag_1000_is_a_number_where_float32_gives_zero():
    layer = carousel.RNN(2, 64)
    x = 0.1 * torch.randn(1001, 2, 2)
    curve = flow(layer, lambda: layer(x)[0][-1].sum())[0].rms()["h"]
    assert curve.isfinite().all()
    assert curve[1000] < -150
    double = layer.double()
    exact = flow(double, lambda: double(x.double())[0][-1].sum())[0].rms()["h"]
    torch.testing.assert_close(curve[1000].double(), exact[1000], rtol=1e-3, atol=0)


def test_a_linear_network_decays_by_exactly_its_gain():
    """Orthogonal recurrent weights times g and no activation: every step multiplies the norm by g."""

    class Linear(carousel.Cell):
        gates = ("a",)

        def update(self, wx, uh, state):
            return (wx + uh,), {}

    init = carousel.initialization.Orthogonal(0.5)
    layer = carousel.Recurrent(Linear, 2, 16, init=init, dtype=torch.float64)
    x = torch.randn(3000, 2, 2, dtype=torch.float64)
    curve = flow(layer, lambda: layer(x)[0][-1].sum())[0].rms()["h"]
    lags = torch.arange(3000, dtype=torch.float64)
    torch.testing.assert_close(curve - curve[0], lags * math.log10(0.5), rtol=1e-9, atol=1e-9)
    assert memory_length(curve) == 6  # 0.5**6 = 1.6%


def lstm_theory(k: int, forget_bias: float, gain: float) -> float:
    """E norm of dL/dc at lag k over lag 0: the Jacobian is aI + bG, G a Ginibre matrix."""
    a = 1 / (1 + math.exp(-forget_bias))
    b = 0.25 * gain
    return math.sqrt(sum(math.comb(k, j) ** 2 * a ** (2 * (k - j)) * b ** (2 * j) for j in range(k + 1)))


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_an_lstm_at_initialisation_decays_as_theory_says(forget_bias):
    layer = carousel.LSTM(2, 384)
    with torch.no_grad():
        for name in ("bias_ih_l0", "bias_hh_l0"):
            getattr(layer, name).zero_()
        layer.bias_ih_l0[384:768] = forget_bias
    x = 0.01 * torch.randn(21, 64, 2)
    w = torch.randn(64, 384)
    curve = flow(layer, lambda: (layer(x)[0][-1] * w).sum())[0].rms()["c"]
    for lag, tolerance in ((1, 0.01), (5, 0.03), (10, 0.06), (20, 0.15)):
        measured = 10 ** float(curve[lag] - curve[0])
        assert measured == pytest.approx(lstm_theory(lag, forget_bias, math.sqrt(1 / 3)), rel=tolerance)


def test_memory_length_is_the_largest_lag_above_one_percent():
    curve = torch.tensor([0.0, -1.0, -3.0, -1.99, -2.01, -5.0])
    assert memory_length(curve) == 3
    assert memory_length(torch.zeros(10)) == 9
    assert memory_length(torch.tensor([0.0, -9.0])) == 0
    assert memory_length(torch.tensor([-torch.inf, 0.0])) == 0


def test_rms_is_over_the_batch():
    from carousel.gradients import Flow

    norms = torch.rand(5, 7, dtype=torch.float64) + 0.1
    rms = Flow({"h": norms.log10()}).rms()["h"]
    torch.testing.assert_close(10**rms, norms.pow(2).mean(1).sqrt())


def by_hand(module, x, lengths, w):
    """Two bidirectional layers step by step: the gradient of every c_t of every layer and direction, by autograd."""
    twin = carousel.from_torch(module)
    states, below = [], x
    for k in range(2):
        outputs = []
        for reverse in (False, True):
            cell, mine = twin.cell(k, reverse), []
            sequences = []
            for b, length in enumerate(lengths):
                state, steps = None, [None] * len(x)
                for t in range(length)[::-1] if reverse else range(length):
                    state = cell(below[t, b : b + 1], state)
                    mine.append((b, t, state[1]))
                    steps[t] = state[0]
                sequences.append(torch.cat([s if s is not None else torch.zeros_like(state[0]) for s in steps]))
            outputs.append(torch.stack(sequences, 1))
            states.append(mine)
        below = torch.cat(outputs, -1)
    loss = (below * w).sum()
    for mine in states:
        gradients = torch.autograd.grad(loss, [c for _, _, c in mine], retain_graph=True)
        yield {(b, t): g.norm().log10() for (b, t, _), g in zip(mine, gradients, strict=True)}


@pytest.mark.parametrize("padded", [False, True])
def test_every_layer_and_direction_is_measured(padded):
    module = nn.LSTM(3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    w = torch.randn(7, 2, 8, dtype=torch.float64)
    lengths = [7, 4] if padded else [7, 7]
    if padded:
        w[4:, 1] = 0
    twin = carousel.from_torch(module).requires_grad_()
    flows = flow(twin, lambda: (twin(x, lengths=lengths)[0] * w).sum())
    assert len(flows) == 4
    for k, (measured, expected) in enumerate(zip(flows, by_hand(module, x, lengths, w), strict=True)):
        for (b, t), value in expected.items():
            step = lengths[b] - 1 - t if k % 2 else t  # the order in which the steps are run
            torch.testing.assert_close(measured.log10_norm["c"][6 - step, b], value, rtol=0, atol=1e-9)


def test_packed_input_and_noise_can_be_measured():
    layer = carousel.GRU(3, 4, regularization=carousel.Regularization(zoneout=0.5))
    packed = nn.utils.rnn.pack_sequence([torch.randn(6, 3), torch.randn(2, 3)])
    (measured,) = flow(layer, lambda: layer(packed)[0].data.sum())
    assert measured.rms()["h"].isfinite().all()


def test_random_masks_are_those_of_the_measured_run():
    layer = carousel.LSTM(4, 6, 2, dropout=0.9, dtype=torch.float64)
    x = torch.randn(5, 3, 4, dtype=torch.float64)

    torch.manual_seed(7)
    (measured, _) = flow(layer, lambda: layer(x)[0].pow(2).sum())
    first, second = nn.LSTM(4, 6, dtype=torch.float64), nn.LSTM(6, 6, dtype=torch.float64)
    first.load_state_dict({n: p for n, p in layer.state_dict().items() if n.endswith("l0")})
    second.load_state_dict({n.replace("l1", "l0"): p for n, p in layer.state_dict().items() if n.endswith("l1")})
    torch.manual_seed(7)
    y, _ = first(x)
    loss = second(nn.functional.dropout(y, 0.9))[0].pow(2).sum()
    direct = torch.autograd.grad(loss, y)[0][-1]  # of the last step, direct is all there is
    torch.testing.assert_close(measured.log10_norm["h"][0], direct.norm(dim=-1).log10())


def test_dropped_weights_carry_nothing():
    layer = carousel.LSTM(4, 6, regularization=carousel.Regularization(weight=1.0))
    (measured,) = flow(layer, lambda: layer(torch.randn(5, 3, 4))[1][0].sum())
    assert measured.log10_norm["h"][0].isfinite().all()
    assert measured.log10_norm["h"][1:].eq(-torch.inf).all()


def test_misuse_is_refused():
    layer = carousel.RNN(2, 3)
    x = torch.randn(4, 2, 2)
    with pytest.raises(ValueError, match="exactly once, not 0 times"):
        flow(layer, lambda: x.sum())
    with pytest.raises(ValueError, match="exactly once, not 2 times"):
        flow(layer, lambda: (layer(x)[0] + layer(x)[0]).sum())
    with pytest.raises(ValueError, match="does not depend on anything that requires a gradient"):
        flow(layer, lambda: layer(x)[0].detach().sum())
    with pytest.raises(ValueError, match="does not depend on the layer"):
        flow(layer, lambda: layer(x)[0].detach().sum() + layer.weight_hh_l0.sum())


def test_the_decay_rate_of_a_known_decay():
    lag = torch.arange(50, dtype=torch.float64)[:, None]
    torch.manual_seed(0)
    slopes = math.log10(0.9) + 0.001 * torch.randn(400, dtype=torch.float64)
    rate = decay_rate(3 + slopes * lag + 0.01 * torch.randn(50, 400, dtype=torch.float64))
    assert rate.rate == pytest.approx(0.9, rel=1e-3)
    assert rate.low < 0.9 < rate.high
    half = (math.log10(rate.high) - math.log10(rate.low)) / 2
    assert half == pytest.approx(1.96 * 0.001 / 20, rel=0.15)
    bent = torch.where(lag < 10, 0.0, -(lag - 10)).expand(50, 3)
    assert decay_rate(bent, last=10).rate == pytest.approx(1)
    assert decay_rate(bent, first=10) == pytest.approx((0.1, 0.1, 0.1))
    assert math.isnan(decay_rate(bent[:, :1]).low)


def test_the_interval_of_the_decay_rate_covers_the_truth_as_often_as_it_says():
    torch.manual_seed(0)
    lag, covered = torch.arange(20, dtype=torch.float64)[:, None], 0
    for _ in range(400):
        _, low, high = decay_rate((-0.1 + 0.02 * torch.randn(50, dtype=torch.float64)) * lag)
        covered += low < 10**-0.1 < high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 3), (0, 10), (5, 2)])
def test_lags_that_are_not_there_are_refused(first, last):
    with pytest.raises(ValueError, match="first and last must be lags with 0 <= first < last <= 9"):
        decay_rate(torch.zeros(10, 2), first, last)


def test_a_dead_gradient_has_no_rate():
    with pytest.raises(ValueError, match="the gradient is zero"):
        decay_rate(torch.tensor([[0.0], [-1.0], [-torch.inf]]))


def test_mean_and_quantiles_over_the_batch():
    curve = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 4.0, 4.0]])
    measured = Flow({"h": curve})
    assert measured.mean()["h"].tolist() == [3, 2]
    assert measured.quantiles(0.0, 0.5, 1.0)["h"].tolist() == [[1, 0], [2.5, 2], [6, 4]]
    torch.testing.assert_close(measured.rms()["h"][0], (10 ** (2 * curve[0])).mean().log10() / 2)


STACKS = {
    "dropout": ({"num_layers": 3, "dropout": 0.3}, {}),
    "both directions, lengths": ({"num_layers": 2, "bidirectional": True, "dropout": 0.5}, {"lengths": [8, 5, 1]}),
    "residual": ({"num_layers": 3, "residual": True}, {}),
    "noise": ({"num_layers": 2, "regularization": carousel.Regularization(0.2, 0.2, 0.2, 0.2)}, {}),
    "resets": ({"num_layers": 2}, {"reset": torch.arange(24).view(8, 3) % 5 == 0}),
    "batch first": ({"num_layers": 2, "batch_first": True}, {}),
    "half detached": ({"num_layers": 2, "detach": carousel.Detach(gates=0.5)}, {}),
    "packed": ({"num_layers": 2, "bidirectional": True}, {}),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", [cells.LSTMCell, cells.GRUCell, cells.LSTMVariantCell])
def test_a_stack_is_measured_as_autograd_has_it(kind, stack):
    options, arguments = STACKS[stack]
    if kind is cells.LSTMVariantCell:
        options = options | {"layer_norm": True}
    torch.manual_seed(0)
    layer = carousel.Recurrent(kind, 4, 4, dtype=torch.float64, backend="eager", **options)
    x = torch.randn(*((3, 8) if "batch" in stack else (8, 3)), 4, dtype=torch.float64)
    if stack == "packed":
        x = nn.utils.rnn.pack_padded_sequence(x, [5, 8, 2], enforce_sorted=False)

    def loss():
        torch.manual_seed(1)
        y, last = layer(x, **arguments)
        y = y.data if stack == "packed" else y
        return y.square().sum() + sum(s.sum() for s in (last if isinstance(last, tuple) else (last,)))

    with watch(layer) as watched:
        loss().backward()
    for ours, autograds in zip(flow(layer, loss), watched, strict=True):
        torch.testing.assert_close(ours.log10_norm, autograds.log10_norm, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "options"), [(nn.RNN, {"num_layers": 3}), (nn.LSTM, {"bidirectional": True})])
def test_lower_layers_and_losses_have_a_scale_of_their_own(kind, options, dtype):
    torch.manual_seed(0)
    layer = kind(4, 8, **({"num_layers": 2} | options)).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.5)
    double, x = copy.deepcopy(layer).double(), torch.randn(170, 2, 4).to(dtype)
    exact = flow(double, lambda: double(x.double())[0][-1].sum())
    assert any(curves.rms()["h"][-1] < -40 for curves in exact)
    tolerance = 1e-4 if dtype is torch.float32 else 5e-3  # the scale itself is rounded
    for scale in (1.0, 1e-25, 1e-40, 1e30):
        found = flow(layer, lambda scale=scale: layer(x)[0][-1].float().sum() * scale)
        for a, b in zip(found, exact, strict=True):
            for name, norm in b.log10_norm.items():
                torch.testing.assert_close(a.log10_norm[name], norm + math.log10(scale), rtol=0, atol=tolerance)


def test_lower_layers_go_beyond_the_range_of_float64():
    """h_t = 1e-3 h_{t-1} + x_t, twice: k steps back from the top there are k + 1 ways, each 1e-3k."""

    class Linear(carousel.Cell):
        gates = ("a",)

        def update(self, wx, uh, state):
            return (wx + uh,), {}

    layer = carousel.Recurrent(Linear, 4, 4, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.eye(4, dtype=torch.float64) * (1e-3 if "hh" in name else 1.0))
    x = torch.randn(200, 1, 4, dtype=torch.float64)
    lower, upper = (f.rms()["h"] for f in flow(layer, lambda: layer(x)[0][-1].sum()))
    lag = torch.arange(200, dtype=torch.float64)
    torch.testing.assert_close(upper, math.log10(2) - 3 * lag, rtol=0, atol=1e-9)
    torch.testing.assert_close(lower, math.log10(2) - 3 * lag + (lag + 1).log10(), rtol=0, atol=1e-9)


def test_a_gate_that_is_left_out_is_a_state_like_any_other():
    layer = carousel.LSTM(3, 4, full_gate_recurrence=True, without=("input_gate",))
    (measured,) = flow(layer, lambda: layer(torch.randn(5, 2, 3))[0][-1].sum())
    assert set(measured.log10_norm) == {"h", "c", "i", "f", "o"}
