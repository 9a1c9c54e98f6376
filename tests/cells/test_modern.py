"""Cells of later papers, against their equations written once more, number by number, in NumPy."""

import math
import re

import numpy as np
import pytest
import torch
from agreement import CATALOGUE, fill, needs_compiler

import carousel
from carousel import cells, initialization

pytestmark = pytest.mark.usefixtures("float64")
BATCH, STEPS, INPUTS, UNITS = 3, 6, 4, 4


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def softplus(a):
    return np.log1p(np.exp(a))


def split(a, parts):
    return np.split(a, parts, axis=-1)


class Numbers:
    """A cell's parameters as arrays, W x + b and U h + b as functions."""

    def __init__(self, cell):
        self.cell = cell
        for name, parameter in cell.named_parameters():
            setattr(self, name, parameter.detach().numpy())

    def wx(self, x):
        return x @ self.weight_ih.T + getattr(self, "bias_ih", 0)


def cho_gru(p, x, h):
    W, U, b, c = (np.split(a, 3) for a in (p.weight_ih, p.weight_hh, p.bias_ih, p.bias_hh))
    r = sigmoid(x @ W[0].T + b[0] + h @ U[0].T + c[0])
    z = sigmoid(x @ W[1].T + b[1] + h @ U[1].T + c[1])
    n = np.tanh(x @ W[2].T + b[2] + (r * h) @ U[2].T + c[2])
    return (z * h + (1 - z) * n,)


def candidate(p, n):
    return n if p.cell.candidate == "identity" else np.where(n < 0, sigmoid(n), n + 0.5)


def min_gru(p, x, h):
    z, n = split(p.wx(x), 2)
    return (h + sigmoid(z) * (candidate(p, n) - h),)


def min_lstm(p, x, h):
    f, i, n = split(p.wx(x), 3)
    f, i = sigmoid(f), sigmoid(i)
    return (f / (f + i) * h + i / (f + i) * candidate(p, n),)


def sru(p, x, h, c):
    new, f, r = split(p.wx(x), 3)
    f, r = sigmoid(f + p.weight_cf[:, 0] * c), sigmoid(r + p.weight_cr[:, 0] * c)
    c = f * c + (1 - f) * new
    return r * c + (1 - r) * x * math.sqrt(1 + 2 * math.exp(-2)), c


def rg_lru(p, x, h, n):
    r, i = split(sigmoid(p.wx(x)), 2)
    a = np.exp(-softplus(p.decay)) ** (8 * r)
    return a * h + np.where(n == 0, 1, np.sqrt(1 - a**2)) * i * x, np.ones_like(n)


def diagonal_gru(p, x, h):
    wr, wz, wn = split(p.wx(x), 3)
    (ar, az, an), (br, bz, bn) = p.weight_hh.reshape(3, -1), p.bias_hh.reshape(3, -1)
    r, z = sigmoid(wr + ar * h + br), sigmoid(wz + az * h + bz)
    return ((1 - z) * h + z * np.tanh(wn + r * (an * h + bn)),)


def diagonal_lstm(p, x, h, c):
    (f, g, o), (af, ag, ao) = split(p.wx(x) + p.bias_hh, 3), p.weight_hh.reshape(3, -1)
    f = sigmoid(f + af * h + p.weight_cf[:, 0] * c)
    c = f * c + (1 - f) * np.tanh(g + ag * h)
    return sigmoid(o + ao * h + p.weight_co[:, 0] * c) * np.tanh(c), c


def unicornn(p, x, y, z):
    step = p.cell.dt * sigmoid(p.speed)
    z = z - step * (np.tanh(p.weight_hh[:, 0] * y + p.wx(x)) + p.cell.alpha * y)
    return y + step * z, z


def cornn(p, x, y, z):
    W = np.concatenate([p.weight_hh, p.weight_zh, p.weight_ih], 1)  # of the state and the input in one
    z = z + 0.042 * (np.tanh(np.concatenate([y, z, x], -1) @ W.T + p.bias_ih) - 2.7 * y - 4.7 * z)
    return y + 0.042 * z, z


def lem(p, x, y, z):
    v1, v2, vz, vy = split(p.wx(x), 4)
    w1, w2, wz = split(y @ p.weight_hh.T + p.bias_hh, 3)
    d1, d2 = 0.3 * sigmoid(v1 + w1), 0.3 * sigmoid(v2 + w2)
    z = (1 - d1) * z + d1 * np.tanh(vz + wz)
    return (1 - d2) * y + d2 * np.tanh(vy + z @ p.weight_zh.T), z


def lru(p, x, y, re, im):
    B = (p.weight_ih[:UNITS] + 1j * p.weight_ih[UNITS : 2 * UNITS]) * np.exp(p.log_gamma)[:, None]
    _, _, dx = split(p.wx(x), 3)
    b = p.bias_ih[:UNITS] + 1j * p.bias_ih[UNITS : 2 * UNITS]
    s = np.exp(-np.exp(p.nu) + 1j * np.exp(p.theta)) * (re + 1j * im) + x @ B.T + np.exp(p.log_gamma) * b
    y = (s @ (p.weight_re + 1j * p.weight_im).T).real + dx
    return y, s.real, s.imag


def cfc(p, x, h):
    x, elapsed = x[:, :-1], x[:, -1:]
    f, g, a, b = split(np.concatenate([x, h], -1) @ np.concatenate([p.weight_ih, p.weight_hh], 1).T
                       + p.bias_ih + p.bias_hh, 4)  # fmt: skip
    s = sigmoid(a * elapsed + b)
    return (np.tanh(f) * (1 - s) + s * np.tanh(g),)


def phased_lstm(p, x, h, c, t):
    x, t, period = x[:, :-1], t + x[:, -1:], np.exp(p.log_period)
    i, f, g, o = split(p.wx(x) + h @ p.weight_hh.T + p.bias_hh, 4)
    phase = np.mod(t - p.shift, period) / period
    k = np.where(phase < 0.25, phase / 0.25, np.where(phase < 0.5, (0.5 - phase) / 0.25, 0.001 * phase))
    new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return k * sigmoid(o) * np.tanh(new) + (1 - k) * h, k * new + (1 - k) * c, t


def fast_grnn(p, x, h):
    a = x @ p.weight_ih.T + h @ (p.weight_hh @ p.weight_rh).T
    z, n = sigmoid(a + p.bias_ih[:UNITS]), np.tanh(a + p.bias_ih[UNITS:])
    return ((sigmoid(p.zeta) * (1 - z) + sigmoid(p.nu)) * n + z * h,)


def ugrnn(p, x, h):
    n, g = split(p.wx(x) + h @ p.weight_hh.T + p.bias_hh, 2)
    return (sigmoid(g) * h + (1 - sigmoid(g)) * np.tanh(n),)


def multiplicative_lstm(p, x, h, c):
    m = p.wx(x)[:, 4 * UNITS :] * (h @ p.weight_mh.T)
    i, f, g, o = split(p.wx(x)[:, : 4 * UNITS] + m @ p.weight_hh.T + p.bias_hh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def slstm(p, x, h, c, n, m):
    """Without a stabiliser: what is carried is c e^m and n e^m, which stay small in so few steps."""
    size = UNITS // 2
    r = np.concatenate([h[:, k * size : (k + 1) * size] @ p.weight_hh[k].T for k in range(2)], 1)
    r = r.reshape(-1, 2, 4, size).swapaxes(1, 2).reshape(-1, 4 * UNITS)
    i, f, z, o = split(p.wx(x) + r, 4)
    C, N = (sigmoid(f) * s * np.exp(m) + np.exp(i) * v for s, v in ((c, np.tanh(z)), (n, 1)))
    m = np.where(n == 0, i, np.maximum(np.log(sigmoid(f)) + m, i))
    return sigmoid(o) * C / N, C / np.exp(m), N / np.exp(m), m


def highway(p, x, h):
    a = p.wx(x) + h @ p.weight_hh.T + p.bias_hh
    for k in range(3):
        n, t = split(a, 2)
        h = sigmoid(t) * np.tanh(n) + (1 - sigmoid(t)) * h
        a = h @ p.weight_ss[min(k, 1)].T + p.bias_ss[min(k, 1)]
    return (h,)


MODERN = {
    "cho_gru": (cells.ChoGRUCell, {}, cho_gru),
    "min_gru": (cells.MinGRUCell, {}, min_gru),
    "min_lstm": (cells.MinLSTMCell, {"candidate": "identity"}, min_lstm),
    "sru": (cells.SRUCell, {}, sru),
    "rg_lru": (cells.RGLRUCell, {}, rg_lru),
    "diagonal_gru": (cells.DiagonalGRUCell, {}, diagonal_gru),
    "diagonal_lstm": (cells.DiagonalLSTMCell, {}, diagonal_lstm),
    "unicornn": (cells.UnICORNNCell, {"dt": 0.3, "alpha": 0.9}, unicornn),
    "cornn": (cells.CoRNNCell, {}, cornn),
    "lem": (cells.LEMCell, {"dt": 0.3}, lem),
    "lru": (cells.LRUCell, {}, lru),
    "cfc": (cells.CfCCell, {"timed": True}, cfc),
    "phased_lstm": (cells.PhasedLSTMCell, {"timed": True, "ratio": 0.5}, phased_lstm),
    "fast_grnn": (cells.FastGRNNCell, {"rank": 2}, fast_grnn),
    "ugrnn": (cells.UGRNNCell, {}, ugrnn),
    "multiplicative_lstm": (cells.MultiplicativeLSTMCell, {}, multiplicative_lstm),
    "slstm": (cells.SLSTMCell, {"heads": 2}, slstm),
    "highway": (cells.HighwayCell, {"depth": 3}, highway),
}


FURTHER = {
    "min_gru, identity": (cells.MinGRUCell, {"candidate": "identity"}, min_gru),
    "min_lstm, positive": (cells.MinLSTMCell, {"candidate": "positive"}, min_lstm),
}
"""Options whose steps are of a form that one above has."""


def test_every_cell_has_its_equations():
    """Here, or, as one of the older ones, in test_cells or test_variants."""
    every = {getattr(cells, name) for name in cells.__all__ if name not in ("ABLATIONS", "Cell", "ModuleCell")}
    assert every == {kind for kind, *_ in (*MODERN.values(), *CATALOGUE.values())}


@pytest.mark.parametrize("name", MODERN | FURTHER)
@pytest.mark.parametrize("bias", [True, False])
def test_a_sequence_is_what_the_equations_say(name, bias):
    kind, options, equations = (MODERN | FURTHER)[name]
    torch.manual_seed(0)
    layer = fill(carousel.Recurrent(kind, INPUTS, UNITS, bias=True, backend="eager", **options))
    if not bias:  # as if all of them were zero
        without = carousel.Recurrent(kind, INPUTS, UNITS, bias=False, backend="eager", **options)
        with torch.no_grad():
            for parameter_name, parameter in layer.named_parameters():
                if parameter_name.startswith("bias"):
                    parameter.zero_()
        without.load_state_dict({n: t for n, t in layer.state_dict().items() if not n.startswith("bias")})
    x = torch.randn(STEPS, BATCH, INPUTS)
    x[..., -1].abs_()  # which may be a time
    output, last = (layer if bias else without)(x)
    numbers = Numbers(layer.cell())
    state = tuple(np.zeros((BATCH, UNITS)) for _ in layer.cell().states)
    for t in range(STEPS):
        state = equations(numbers, x[t].numpy(), *state)
        np.testing.assert_allclose(output[t].detach(), state[0], rtol=1e-9, atol=1e-12)
    for mine, right in zip([last] if isinstance(last, torch.Tensor) else last, state, strict=True):
        np.testing.assert_allclose(mine[0].detach(), right, rtol=1e-9, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("name", sorted(MODERN.keys() - CATALOGUE))
def test_the_kernel_agrees_with_the_loop_in_all_gradients(name):
    kind, options, _ = MODERN[name]
    torch.manual_seed(0)
    layer = fill(carousel.Recurrent(kind, INPUTS, UNITS, **options))
    x, lengths = torch.rand(STEPS, BATCH, INPUTS, requires_grad=True), [6, 1, 4]
    results = []
    for layer.backend in ("fused", "eager"):
        output, last = layer(x, lengths=lengths)
        outputs = [output, *(last if isinstance(last, tuple) else (last,))]
        torch.manual_seed(1)
        loss = sum((y * torch.randn_like(y)).sum() for y in outputs)
        results.append([*outputs, *torch.autograd.grad(loss, [x, *layer.parameters()])])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MODERN)
def test_gradients_are_those_of_finite_differences(name):
    kind, options, _ = MODERN[name]
    torch.manual_seed(0)
    cell = fill(kind(INPUTS, UNITS, **options))
    state = tuple(torch.rand(2, size, requires_grad=True) + 0.5 for size in cell.state_sizes)
    x = torch.rand(2, INPUTS, requires_grad=True)
    outputs = 1 if name == "slstm" else len(state)  # c, n and m depend on each other by the stabiliser, h does not

    def step(x, *state):
        new, _ = cell.step(cell.input_map(x), state)
        return new[:outputs]

    assert torch.autograd.gradcheck(step, (x, *state[: 3 if name == "slstm" else None], *state[3:]))


@pytest.mark.parametrize("name", ["sru", "rg_lru"])
def test_an_input_of_another_size_is_mapped(name):
    torch.manual_seed(0)
    kind = MODERN[name][0]
    wide, square = fill(kind(6, UNITS)), kind(UNITS, UNITS)
    x = torch.randn(BATCH, 6)
    with torch.no_grad():
        for parameter_name, parameter in square.named_parameters():
            parameter.copy_(getattr(wide, parameter_name)[: len(parameter)][..., : parameter.size(-1)])
        *blocks, skip = wide.input_map(x).chunk(len(wide.gates), -1)
        states = tuple(torch.rand(BATCH, UNITS) for _ in wide.states)
        expected, _ = square.update(torch.cat([*blocks, skip], -1), skip[..., :0], states)
        assert all(torch.equal(a, b) for a, b in zip(wide(x, states), expected, strict=True))


def test_a_positive_candidate_is_continuous_and_positive():
    cell = cells.MinGRUCell(1, 1)
    a = torch.linspace(-5, 5, 101)
    g = cell._new(a)
    assert (g > 0).all()
    assert (g.diff() > 0).all()
    assert torch.equal(g[51:], a[51:] + 0.5)
    with pytest.raises(ValueError, match=r"^candidate should be one of positive, identity, got 'log'$"):
        cells.MinGRUCell(1, 1, candidate="log")


def test_min_lstm_is_a_number_with_both_gates_closed():
    cell = cells.MinLSTMCell(1, 1).float()
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.bias_ih.copy_(torch.tensor([-200.0, -201.0, 1.0]))
        h = cell(torch.zeros(1, 1, dtype=torch.float32), torch.ones(1, 1, dtype=torch.float32) * 4)
    keep = 1 / (1 + math.exp(-1))
    assert float(h) == pytest.approx(4 * keep + 1.5 * (1 - keep), rel=1e-5)


def test_an_slstm_is_finite_where_its_exponentials_are_not():
    layer = carousel.Recurrent(cells.SLSTMCell, 1, 2, backend="eager", dtype=torch.float32)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[800.0], [-800.0], [1000.0], [-1000.0], [1], [1], [0], [0]]))
    x = torch.tensor([1.0, -1, 1, 1, -1], dtype=torch.float32).view(-1, 1, 1).requires_grad_()
    output, (_, _, n, _) = layer(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert output.isfinite().all()
    assert gradient.isfinite().all()
    assert (n >= 1).all()


def test_each_sequence_of_an_slstm_begins_by_itself():
    layer = fill(carousel.Recurrent(cells.SLSTMCell, 2, 4, heads=2, backend="eager"))
    x = torch.randn(6, 2, 2)
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[3, 1] = True
    both, _ = layer(x, reset=reset)
    alone, _ = layer(x[3:, 1:])
    torch.testing.assert_close(both[3:, 1:], alone)


def test_the_slstm_starts_as_in_its_authors_code():
    cell = cells.SLSTMCell(5, 6, heads=2, depth=0.5)
    assert not cell.weight_hh.any()
    assert cell.weight_hh.shape == (2, 12, 3)
    i, f, z, o = cell.bias_ih.detach().split(6)
    assert not torch.cat([i, z, o]).any()
    np.testing.assert_allclose(f, [5, 5 - 12 * 0.5**0.95, -7] * 2)
    assert float(cells.SLSTMCell(400, 400).weight_ih.detach().std()) == pytest.approx(math.sqrt(2 / 2000), rel=0.02)


def drawn(cell):
    """The first values, by name."""
    return {name: parameter.detach() for name, parameter in cell.named_parameters()}


def assert_uniform(values, bound):
    assert float(values.abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(values.abs().max()) <= bound
    assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_fast_grnn_starts_as_in_its_authors_code():
    torch.manual_seed(0)
    first = drawn(cells.FastGRNNCell(60, 80, rank=40))
    for name in ("weight_ih", "weight_hh", "weight_rh"):
        assert float(first[name].std()) == pytest.approx(0.1, rel=0.05)
    assert (first["bias_ih"] == 1).all()
    assert (first["zeta"], first["nu"]) == (1, -4)


def test_the_cornn_starts_as_one_linear_map():
    torch.manual_seed(0)
    first = drawn(cells.CoRNNCell(40, 60))
    for values in (first["weight_ih"], first["weight_hh"], first["weight_zh"]):
        assert_uniform(values, 1 / math.sqrt(40 + 2 * 60))
    assert float(first["bias_ih"].abs().max()) <= 1 / math.sqrt(40 + 2 * 60)


@pytest.mark.parametrize(("kind", "gate"), [(cells.DiagonalGRUCell, "z"), (cells.DiagonalLSTMCell, "f")])
def test_the_diagonal_cells_start_as_in_their_authors_code(kind, gate):
    torch.manual_seed(0)
    cell = kind(30, 2000)
    first = drawn(cell)
    assert_uniform(first.pop("weight_ih"), math.sqrt(6 / 2030))
    fall = first.pop("bias_ih")
    torch.testing.assert_close(fall[cell.rows(gate)], torch.linspace(0, -1, 2000))
    assert fall.count_nonzero() == 1999
    assert not first.pop("bias_hh").any()
    for values in first.values():
        assert float(values.std()) == pytest.approx(2 / math.sqrt(5 * 2000), rel=0.05)


@pytest.mark.parametrize("timed", [False, True])
def test_the_cfc_starts_as_in_its_authors_code(timed):
    torch.manual_seed(0)
    first = drawn(cells.CfCCell(40 + timed, 60, timed=timed))
    for name in ("weight_ih", "weight_hh"):
        assert_uniform(first[name], math.sqrt(6 / (40 + 60 + 60)))
    assert float(first["bias_ih"].abs().max()) == pytest.approx(0.1, rel=0.05)
    assert float(first["bias_ih"].abs().max()) <= 0.1
    assert not first["bias_hh"].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_multiplicative_lstm_starts_as_in_its_authors_code(dtype):
    torch.manual_seed(0)
    cell = cells.MultiplicativeLSTMCell(6, 8, dtype=dtype)
    first = drawn(cell)
    for matrix in (*first["weight_ih"].split(32), first["weight_hh"], first["weight_mh"]):
        product = matrix.double().T @ matrix.double()
        close = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 0.02}
        torch.testing.assert_close(product, torch.eye(len(product)).double(), **close)
    assert (first["bias_ih"][cell.rows("f")] == 3).all()
    assert first["bias_ih"].count_nonzero() == 8
    assert not first["bias_hh"].any()


def test_the_highway_cell_starts_as_in_its_authors_code():
    torch.manual_seed(0)
    first = drawn(cells.HighwayCell(40, 60, depth=3))
    for name in ("weight_ih", "weight_hh", "weight_ss"):
        assert_uniform(first[name], 0.04)
    for name in ("bias_ih", "bias_ss"):
        n, t = first[name].chunk(2, -1)
        assert 0.03 < float(n.abs().max()) <= 0.04
        assert (t == -2).all()
    assert not first["bias_hh"].any()


def test_the_rg_lru_starts_on_its_ring():
    cell = cells.RGLRUCell(2000, 2000)
    radius = (-torch.nn.functional.softplus(cell.decay.detach())).exp()
    assert float(radius.min()) >= 0.9
    assert float(radius.max()) <= 0.999
    assert float(radius.square().mean()) == pytest.approx((0.9**2 + 0.999**2) / 2, rel=0.01)


def test_the_lru_starts_on_its_ring_with_inputs_of_one_size():
    cell = cells.LRUCell(1, 4000, r_min=0.5, r_max=0.9, max_phase=1.0)
    radius = (-cell.nu.detach().exp()).exp()
    assert float(radius.min()) >= 0.5
    assert float(radius.max()) <= 0.9
    assert float(cell.theta.detach().exp().min()) >= 0
    assert float(cell.theta.detach().exp().max()) <= 1
    torch.testing.assert_close(cell.log_gamma.exp() ** 2, 1 - radius**2)


def test_the_indrnn_starts_as_its_paper_and_stays_bounded():
    cell = cells.IndRNNCell(1, 4000, t_max=10).requires_grad_(False)
    bound = 2 ** (1 / 10)
    assert float(cell.weight_hh.min()) >= 0
    assert 0.99 * bound < float(cell.weight_hh.max()) <= bound
    assert float(cells.IndRNNCell(1, 4000).weight_hh.detach().max()) <= 1
    cell.weight_hh.fill_(3.0)
    cell.requires_grad_(True)
    h = torch.ones(1, 4000, requires_grad=True)
    uh = cell.hidden_map(h) - cell.bias_hh
    uh.sum().backward()
    torch.testing.assert_close(uh, torch.full_like(uh, bound))
    torch.testing.assert_close(h.grad, torch.full_like(h, bound))
    assert (cell.weight_hh.grad == 1).all()  # so that it can come back


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: cells.SLSTMCell(2, 6, heads=4), "heads should divide hidden_size, got 4 and 6"),
        (lambda: cells.HighwayCell(2, 6, depth=0), "depth should be at least 1, got 0"),
        (lambda: cells.FastGRNNCell(2, 6, rank=6), "rank should be at least 0, for none, and below hidden_size, got 6"),
        (lambda: cells.PhasedLSTMCell(2, 6, ratio=0.0), "ratio should be in (0, 1], got 0.0"),
        (lambda: cells.PhasedLSTMCell(2, 6, periods=(9, 1)), "periods should be two times, the shorter one first"),
        (lambda: cells.CfCCell(0, 6, timed=True), "with timed=True input_size counts the time, so it has"),
        (lambda: cells.IndRNNCell(2, 6, t_max=0), "t_max must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(make, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        make()


@pytest.mark.parametrize("name", ["min_gru", "sru", "diagonal_gru", "diagonal_lstm", "ugrnn", "cho_gru", "fast_grnn"])
def test_a_forget_bias_holds_the_state(name):
    """Whatever sign the cell's equations ask for."""
    torch.manual_seed(0)
    kind, options, _ = MODERN[name]
    cell = kind(INPUTS, UNITS, init=initialization.ForgetBias(40.0), **options)
    if name == "fast_grnn":
        with torch.no_grad():
            cell.nu.fill_(-40.0)  # which lets a candidate in past the gate
    state = tuple(torch.rand(1, size) for size in cell.state_sizes)
    with torch.no_grad():
        new = cell(torch.zeros(1, INPUTS), state if len(state) > 1 else state[0])
    kept = cell.states.index("c") if "c" in cell.states else 0
    torch.testing.assert_close((new if isinstance(new, tuple) else (new,))[kept], state[kept])
