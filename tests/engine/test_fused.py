"""The kernel computes what the loop computes: outputs and every gradient, for cells that it has never seen too."""

import copy
import os
import shutil
import subprocess
import sys

import pytest
import torch
from agreement import (
    CALLS,
    CATALOGUE,
    FORMS,
    Seeded,
    asked_for,
    assert_same_with_gradients,
    fill,
    on_threads,
    run_with_gradients,
    tensors,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel import Detach, Regularization
from carousel.cells import LSTMVariantCell
from carousel.engine.eager import Kinds
from carousel.engine.fused import TARGETS, op
from carousel.engine.fused.cpu import build
from carousel.engine.fused.cpu.emit import OPERATIONS
from carousel.engine.fused.plans import plan
from carousel.engine.fused.trace import trace
from carousel.engine.registry import REGISTRY

try:
    build.compiler()
except build.BuildError:
    pytest.skip("no compiler", allow_module_level=True)

BY_LOOP = {"lstm_layer_norm", "lstm_FGR"}  # steps of several phases: see test_phases.py
FUSED = {name: cell for name, cell in CATALOGUE.items() if name not in BY_LOOP}


def pair(cell, *sizes, **options) -> tuple[nn.Module, nn.Module]:
    """The same layer, by the kernel and by the loop."""
    torch.manual_seed(0)
    fused = fill(carousel.Recurrent(cell, *sizes, backend="fused", **options))
    eager = copy.deepcopy(fused)
    eager.backend = "eager"
    return fused, eager


def states(layer, *shape, dtype=torch.float64):
    sizes = layer.cell().state_sizes
    drawn = tuple(torch.rand(*shape, size, dtype=dtype) + 0.1 for size in sizes)  # an sLSTM divides by one of them
    return drawn if len(sizes) > 1 else drawn[0]


SMALL, LARGE = (3, 5, 4, 2), (33, 37, 20, 30)


@pytest.mark.parametrize(
    ("name", "inputs", "hidden", "steps", "batch"),
    [(name, *(LARGE if name in FORMS else SMALL)) for name in FUSED],  # the small ones of each form: test_testing.py
)
def test_the_catalogue(name, inputs, hidden, steps, batch):
    cell, options = CATALOGUE[name]
    fused, eager = pair(cell, inputs, hidden, 2, bidirectional=True, dtype=torch.float64, **options)
    x = torch.randn(steps, batch, inputs, dtype=torch.float64)
    assert_same_with_gradients(fused, eager, x, states(fused, 4, batch), tolerance=1e-9)


@pytest.mark.optimized
@pytest.mark.parametrize("name", [name for name in FUSED if name in FORMS])
def test_float32_is_within_4_times_the_loops_own_error(name):
    cell, options = CATALOGUE[name]
    fused, eager = pair(cell, 8, 40, **options)
    exact = copy.deepcopy(eager).double()
    x, hx = torch.randn(30, 7, 8), states(fused, 1, 7, dtype=torch.float32)
    wide = tuple(s.double() for s in hx) if isinstance(hx, tuple) else hx.double()

    def results(layer, x, hx):
        return [t.double() for t in run_with_gradients(layer, x, hx)]

    def errors(got, truth):
        return [((a - b).norm() / (1e-12 + b.norm())).item() for a, b in zip(got, truth, strict=True)]

    torch.set_default_dtype(torch.float64)  # of the random loss
    try:
        truth = results(exact, x.double(), wide)
    finally:
        torch.set_default_dtype(torch.float32)
    mine, loops = (errors(results(layer, x, hx), truth) for layer in (fused, eager))
    for a, b in zip(mine, loops, strict=True):
        assert a <= 4 * b + 1e-7


MASKED = {
    "lengths": ({}, {"lengths": [9, 1, 4]}),
    "reset": ({}, {"reset": torch.rand(9, 3, generator=torch.Generator().manual_seed(0)) < 0.3}),
    "zoneout": ({"zoneout": 0.3}, {"lengths": [2, 9, 7]}),
    "recurrent": ({"recurrent": 0.4, "input": 0.2, "weight": 0.1}, {}),
    "all": (
        {"zoneout": 0.3, "recurrent": 0.4},
        {"lengths": [9, 3, 5], "reset": torch.rand(9, 3, generator=torch.Generator().manual_seed(1)) < 0.3},
    ),
}


@pytest.mark.parametrize("masks", [masks for masks in MASKED if masks != "all"])  # all: test_testing.py
@pytest.mark.parametrize("name", ["lstm_projected", "gru", "indrnn"])
def test_masks(name, masks):
    cell, options = CATALOGUE[name]
    noise, call = MASKED[masks]
    fused, eager = pair(
        cell, 3, 5, 2, bidirectional=True, dtype=torch.float64, regularization=Regularization(**noise), **options
    )
    x = torch.randn(9, 3, 3, dtype=torch.float64)
    assert_same_with_gradients(Seeded(fused, **call), Seeded(eager, **call), x, states(fused, 4, 3), tolerance=1e-9)


@pytest.mark.parametrize(
    ("name", "masks", "detach"),
    [("lstm_projected", "all", Detach(gates=0.4, carousel=0.6)), ("gru", "reset", Detach(gates=0.5))],
)
def test_what_is_detached_changes_from_step_to_step(name, masks, detach):
    cell, options = CATALOGUE[name]
    noise, call = MASKED[masks]
    options = options | {"regularization": Regularization(**noise), "detach": detach}
    fused, eager = pair(cell, 3, 5, 2, bidirectional=True, dtype=torch.float64, **options)
    x = torch.randn(9, 3, 3, dtype=torch.float64)
    assert_same_with_gradients(Seeded(fused, **call), Seeded(eager, **call), x, states(fused, 4, 3), tolerance=1e-9)
    second = []
    for layer in (fused, eager):
        torch.manual_seed(1)
        first = torch.autograd.grad(layer(x, **call)[0].pow(2).sum(), layer.parameters(), create_graph=True)
        second.append(torch.autograd.grad(sum(d.pow(2).sum() for d in first), list(layer.parameters())))
    torch.testing.assert_close(*second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["mgu", "gru", "lstm_layer_norm"])
def test_under_autocast_the_kernel_computes_in_float32(name, kind):
    """From and to the types that the loop has, with the numbers and the gradients of float32."""
    cell, options = CATALOGUE[name]
    layer = fill(carousel.Recurrent(cell, 3, 5, backend="fused", regularization=Regularization(0, 0.4), **options))
    call = {"lengths": [9, 3, 5], "reset": MASKED["reset"][1]["reset"]}
    x, hx = torch.randn(9, 3, 3), states(layer, 1, 3, dtype=torch.float32)
    expected = run_with_gradients(Seeded(layer, **call), x, hx)
    narrow = torch.float32 if name == "gru" else kind
    for backward_within in (True, False):
        for entry in (x, x.to(kind)):
            torch.manual_seed(1)
            leaves = [t.detach().clone().requires_grad_() for t in tensors((entry, hx))]
            with torch.autocast("cpu", kind):
                outputs = tensors(Seeded(layer, **call)(leaves[0], tuple(leaves[1:]) if len(leaves) > 2 else leaves[1]))
                (choice,) = carousel.explain(layer, entry, hx, **call)
            assert choice.reason.startswith("autocast is on, and the kernel computes in float32: one kernel")
            assert {y.dtype for y in outputs} == {kind if entry is not x else narrow}
            loss = sum((y.float() * torch.randn_like(y.float())).sum() for y in outputs)
            with torch.autocast("cpu", kind, enabled=backward_within):
                found = torch.autograd.grad(loss, [*leaves, *layer.parameters()], retain_graph=True)
            for a, b in zip([*outputs, *found], expected, strict=True):
                torch.testing.assert_close(a.float(), b, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_autocast_leaves_float64_alone(backend):
    layer, x = carousel.LSTM(3, 5, backend=backend, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x)[0], expected)


@pytest.mark.optimized
@pytest.mark.parametrize("batch", [2, 5])  # some threads may be left without a sequence
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("team", [1, 2, 3])
@pytest.mark.parametrize("name", ["lstm_projected", "gru"])
def test_however_the_work_is_split(monkeypatch, name, team, count, batch):
    cell, options = CATALOGUE[name]
    fused, eager = pair(cell, 6, 50, dtype=torch.float64, **options)
    x = torch.randn(300 // batch, batch, 6, dtype=torch.float64)
    monkeypatch.setattr(TARGETS["cpu"], "team", team)
    with on_threads(count):
        assert_same_with_gradients(fused, eager, x, states(fused, 1, batch), tolerance=1e-9)
        monkeypatch.setattr(TARGETS["cpu"], "openmp", False)
        assert_same_with_gradients(fused, eager, x, states(fused, 1, batch), tolerance=1e-9)


UNARY = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "exp": lambda a: torch.exp(torch.tanh(a)),
    "log": lambda a: torch.log(a.abs() + 0.5),
    "softplus": nn.functional.softplus,
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda a: nn.functional.gelu(a, approximate="tanh"),
    "silu": nn.functional.silu,
    "clamp": lambda a: a.clamp(-0.7, 0.6),
    "sqrt": lambda a: (a * a + 0.1).sqrt(),
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "leaky": nn.functional.leaky_relu,
    "elu": nn.functional.elu,
    "hardtanh": nn.functional.hardtanh,
    "square": lambda a: a.tanh() ** 2,
    "detach": lambda a: a.detach(),
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: a / (1 + b * b),
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "where": lambda a, b: torch.where((a > b) & ~(b < -0.5), a, 0.3 * b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
}


class Generated(carousel.Cell):
    """A program of pointwise operations, drawn at random, over the maps, the states and two parameters of its own."""

    def __init__(self, *args, program=(), gates=1, states=1, **options):
        self.program, self.gates = program, tuple(f"g{k}" for k in range(gates))
        self.states = tuple(f"s{k}" for k in range(states))
        super().__init__(*args, **options)

    def shapes(self):
        return super().shapes() | {"peephole": (2 * self.hidden_size,), "scale": (1,)}

    def update(self, wx, uh, state):
        values = [*wx.chunk(len(self.gates), -1), *uh.chunk(len(self.gates), -1), *state, *self.peephole.chunk(2)]
        values.append(self.scale * values[0])
        for name, a, b in self.program:
            a, b = values[a % len(values)], values[b % len(values)]
            values.append(UNARY[name](a) if name in UNARY else BINARY[name](a, b))
        return tuple(values[-1 - k].expand_as(state[0]).tanh() for k in range(len(self.states))), {}


operations = st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 40), st.integers(0, 40))
programs = st.lists(operations, min_size=4, max_size=16)


@pytest.mark.optimized
@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])  # to shrink is to compile anew
@given(program=programs, gates=st.integers(1, 6), count=st.integers(1, 3), hidden=st.integers(1, 20), call=CALLS)
def test_generated_cells(program, gates, count, hidden, call):
    torch.manual_seed(0)
    steps, batch = 5, 70  # for which threads are worth it
    options, given = asked_for(call, steps, batch)
    options |= {"program": tuple(program), "gates": gates, "states": count}
    fused, eager = pair(Generated, 3, hidden, dtype=torch.float64, **options)
    x = torch.randn(steps, batch, 3, dtype=torch.float64)
    ours, loop = (Seeded(layer, **given) for layer in (fused, eager))
    with on_threads(call["threads"]):
        hx = states(fused, 1 + call["bidirectional"], batch)
        assert_same_with_gradients(ours, loop, x, hx, tolerance=1e-9)


@pytest.mark.parametrize("kind", [*UNARY, *BINARY])
def test_every_operation_is_traced(kind):
    cell = Generated(2, 3, program=((kind, 0, 1), ("tanh", 7, 7)), device="meta")
    step = trace(cell, Kinds(), torch.float32, OPERATIONS)
    assert len(step.graph.reach(step.new)) >= 3


class Elementary(carousel.Cell):
    """Functions of the input, as states."""

    gates = ("a",)
    states = ("sigmoid", "tanh", "exp")

    def update(self, wx, uh, state):
        return (wx.sigmoid(), wx.tanh(), wx.exp()), {}


@pytest.mark.optimized
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elementary_functions_within_3_ulp(dtype):
    tiny, edge = torch.finfo(dtype).tiny, 88.0 if dtype == torch.float32 else 709.0
    spread = torch.cat([torch.linspace(-edge, edge, 20001), torch.logspace(-30, 0, 999), -torch.logspace(-30, 0, 999)])
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, tiny / 4, -tiny / 4, -edge - 10, edge + 10])
    x = torch.cat([spread, special]).to(dtype)
    layer = carousel.Recurrent(Elementary, 1, 1, bias=False, dtype=dtype, backend="fused")
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        _, last = layer(x.view(1, -1, 1))

    def sigmoid(x):  # torch's own is zero where the result is denormal
        return torch.where(x < 0, x.exp() / (1 + x.exp()), 1 / (1 + (-x).exp()))

    for got, function in zip(last, (sigmoid, torch.tanh, torch.exp), strict=True):
        truth = function(x.double()).to(dtype)
        ulp = (torch.nextafter(truth.abs(), torch.full_like(truth, torch.inf)) - truth.abs()).nan_to_num(1.0, 1.0, 1.0)
        error = (got.flatten() - truth).abs() / ulp
        same = (got.flatten() == truth) | (got.flatten().isnan() & truth.isnan())
        assert ((error <= 3) | same).all()


def test_denormals_are_kept_unless_flushed():
    layer = carousel.Recurrent(Elementary, 1, 1, bias=False, backend="fused")
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        x = torch.full((1, 4, 1), -90.0)
        assert (layer(x)[0] > 0).all()
        if torch.set_flush_denormal(True):
            try:
                assert (layer(x)[0] == 0).all()
            finally:
                torch.set_flush_denormal(False)


def test_only_what_is_asked_for():
    layer = carousel.LSTM(3, 5, backend="fused")
    x, (h, c) = torch.randn(4, 2, 3), torch.zeros(2, 1, 2, 5)
    fused = REGISTRY.kernels[plan(layer.cell(), "cpu", torch.float32, Kinds())[0]]
    weights = [getattr(layer, f"{name}_l0").detach() for name in fused.names]
    *_, saved = op.forward(fused.key, x, [h[0], c[0]], weights, [], False, 0)
    assert saved.numel() == 0
    out, *last, saved = op.forward(fused.key, x, [h[0], c[0]], weights, [], True, 0)
    wanted = [False, False, False, *(name == "bias_hh" for name in fused.names)]
    arriving = [torch.ones_like(out), *(torch.empty(0) for _ in last)]
    found = op.backward(fused.key, arriving, x, [h[0], c[0]], weights, [], out, saved, wanted, 0)
    assert [t.numel() > 0 for t in found] == wanted
    layer.weight_ih_l0.requires_grad_(False)
    layer(x)[0].sum().backward()
    torch.testing.assert_close(found[2 + 1 + fused.names.index("bias_hh")], layer.bias_hh_l0.grad)
    assert layer.weight_ih_l0.grad is None


def test_inputs_laid_out_in_any_way():
    fused, eager = pair(carousel.GRUCell, 3, 5, dtype=torch.float64)
    whole = torch.randn(6, 4, 7, dtype=torch.float64)
    for x in (whole[..., 2:5], whole.transpose(0, 1)[..., :3], whole[::2, :, :3], whole[:1, :, :3].expand(5, -1, -1)):
        (a, h), (b, g) = fused(x), eager(x)
        torch.testing.assert_close((a, h), (b, g))
        a.sum().backward()  # a gradient without memory of its own
        b.sum().backward()
        torch.testing.assert_close([p.grad for p in fused.parameters()], [p.grad for p in eager.parameters()])


def test_backward_twice():
    fused, _ = pair(carousel.LSTMCell, 3, 5, dtype=torch.float64)
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    loss = fused(x)[0].pow(2).sum()
    first = torch.autograd.grad(loss, fused.parameters(), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, fused.parameters()), strict=True))


def test_an_input_map_of_its_own():
    class Gain(carousel.GRUCell):
        def input_map(self, x):
            return super().input_map(x).tanh() * 2

    fused, eager = pair(Gain, 3, 21, dtype=torch.float64)
    assert_same_with_gradients(fused, eager, torch.randn(6, 4, 3, dtype=torch.float64), tolerance=1e-9)


def test_an_input_map_that_mixes_units_is_done_before():
    class Softmax(carousel.GRUCell):
        def input_map(self, x):
            return super().input_map(x).softmax(-1)

    fused, eager = pair(Softmax, 3, 21, 2, bidirectional=True, dtype=torch.float64)
    assert_same_with_gradients(fused, eager, torch.randn(6, 4, 3, dtype=torch.float64), tolerance=1e-9)


def test_a_second_derivative_where_there_is_none():
    class Idle(carousel.Cell):
        gates = ("a",)

        def update(self, wx, uh, state):
            return (0 * state[0] + 1,), {}

    layer = carousel.Recurrent(Idle, 3, 5, backend="fused")
    output, _ = layer(torch.randn(4, 2, 3))
    found = torch.autograd.grad(output.sum(), layer.parameters(), create_graph=True, allow_unused=True)
    assert all(g is None or not g.any() for g in found)


def test_one_step_of_one_sequence():
    fused, eager = pair(carousel.LSTMCell, 3, 21, dtype=torch.float64)
    for shape in ((1, 1, 3), (1, 3), (2, 1, 3)):
        assert_same_with_gradients(fused, eager, torch.randn(*shape, dtype=torch.float64), tolerance=1e-9)


@pytest.mark.parametrize(
    ("cell", "inputs", "hidden", "options"),
    [
        (carousel.LSTMCell, 1, 2, {"proj_size": 1, "bias": False}),
        (LSTMVariantCell, 2, 35, {"peephole": True}),
        (carousel.GRUCell, 17, 1, {}),
        (carousel.RNNCell, 33, 17, {"dtype": torch.float32}),
    ],
)
def test_sizes_that_fill_no_vector(cell, inputs, hidden, options):
    fused, eager = pair(cell, inputs, hidden, **{"dtype": torch.float64} | options)
    dtype = fused.weight_hh_l0.dtype
    heights = [(2, batch) for batch in range(4, 14)]  # of tiles: one, one taken in parts, several
    for steps, batch in ((1, 1), (1, 3), (7, 1), (3, 150), *heights):
        x, state = torch.randn(steps, batch, inputs, dtype=dtype), states(fused, 1, batch, dtype=dtype)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        assert_same_with_gradients(fused, eager, x, state, tolerance=tolerance)


def test_a_hidden_map_around_the_product():
    class Damped(carousel.GRUCell):
        def hidden_map(self, h):
            return 0.5 * super().hidden_map(h).tanh()

    fused, eager = pair(Damped, 3, 21, dtype=torch.float64)
    assert_same_with_gradients(fused, eager, torch.randn(6, 4, 3, dtype=torch.float64), tolerance=1e-9)


def test_padding_lanes_do_not_leak():
    class Inverse(carousel.Cell):
        """Divides by its state: zero in the padding, never in a unit."""

        gates = ("a",)

        def update(self, wx, uh, state):
            return ((wx + uh).tanh() + 1 / state[0],), {}

    fused, eager = pair(Inverse, 3, 5, dtype=torch.float64)
    x, h = torch.randn(3, 2, 3, dtype=torch.float64), 2 + torch.rand(1, 2, 5, dtype=torch.float64)
    assert_same_with_gradients(fused, eager, x, h, tolerance=1e-9)


def test_nan_goes_in_and_comes_out():
    layer = carousel.LSTM(3, 5, backend="fused")
    x = torch.randn(4, 2, 3)
    x[1, 0] = torch.nan
    output, _ = layer(x)
    assert output[1:, 0].isnan().all()
    assert output[:, 1].isfinite().all()
    assert output[0].isfinite().all()


def test_streaming_in_chunks():
    layer = carousel.Recurrent(carousel.LSTMCell, 3, 5, backend="fused", dtype=torch.float64)
    x = torch.randn(10, 2, 3, dtype=torch.float64)
    whole, last = layer(x)
    parts, state = [], None
    for chunk in x.split(3):
        part, state = layer(chunk, state)
        parts.append(part)
    torch.testing.assert_close((torch.cat(parts), state), (whole, last))


def test_threads_of_python():
    from concurrent.futures import ThreadPoolExecutor

    layer = carousel.LSTM(3, 5, backend="fused")
    xs = [torch.randn(20, 3, 3) for _ in range(16)]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        alone = [layer(x)[0] for x in xs]
        together = list(pool.map(lambda x: layer(x)[0], xs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


class Through(torch.utils.data.Dataset):
    def __init__(self):
        self.layer = carousel.LSTM(3, 40, backend="fused")

    def __len__(self):
        return 4

    def __getitem__(self, k):
        torch.set_num_threads(2)  # more than a worker has by default
        with torch.no_grad():
            return self.layer(torch.full((50, 8, 3), float(k)))[0]


def test_processes_forked_by_a_dataloader():
    data = Through()
    expected = [data[k] for k in range(4)]  # in this process first, so that threads are there
    loader = torch.utils.data.DataLoader(
        data, num_workers=2, batch_size=None, multiprocessing_context="fork", timeout=60
    )
    for a, b in zip(expected, loader, strict=True):
        torch.testing.assert_close(a, b)


def test_the_norms_on_the_way_back():
    fused, eager = pair(carousel.LSTMCell, 3, 37, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(12, 4, 3, dtype=torch.float64)
    curves = []
    for layer in (fused, eager):
        with carousel.gradients.watch(layer) as flows:
            layer(x)[0][-1].pow(2).sum().backward()
        curves.append([flow.log10_norm[name] for flow in flows for name in ("h", "c")])
    measured = carousel.gradients.flow(fused, lambda: fused(x)[0][-1].pow(2).sum())
    curves.append([flow.log10_norm[name] for flow in measured for name in ("h", "c")])
    assert len(tensors(curves[0])) == 8
    torch.testing.assert_close(curves[0], curves[1])
    torch.testing.assert_close(curves[0], curves[2])


PROGRAM = """
import os, torch, carousel
from carousel.engine.eager import Kinds
from carousel.engine.fused import TARGETS
from carousel.engine.fused.trace import trace
torch.manual_seed(0)
layer = carousel.LSTM(3, 7, backend="fused")
words = TARGETS["cpu"].operations
trace(layer.cell(), Kinds(), torch.float32, words)  # here once, for what torch imports for it takes its time
for _ in range(COUNT):
    if not os.fork():
        os.write(1, f"{layer(torch.ones(4, 2, 3))[0].sum().item()}\\n".encode())
        os._exit(0)
assert not any(os.wait()[1] for _ in range(COUNT))
"""


def programs_output(folder, count=1, **environment) -> list[float]:
    """Of so many processes that make the same kernel at the same time."""
    program, environment = (
        PROGRAM.replace("COUNT", str(count)),
        os.environ | {"XDG_CACHE_HOME": str(folder)} | environment,
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.splitlines()]


def test_16_processes_on_an_empty_cache(tmp_path):
    (output,) = set(programs_output(tmp_path, 16))
    assert output == pytest.approx(carousel.LSTM(3, 7, backend="fused")(torch.ones(4, 2, 3))[0].sum().item(), rel=1e-5)
    assert len(list(tmp_path.glob("carousel/*.so"))) == 2  # the two passes
    assert not [p for p in (tmp_path / "carousel").iterdir() if p.is_dir()]  # what they worked in
    assert (tmp_path / "carousel").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("other", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"CXX": "clang++"}], ids=" ".join)
def test_narrower_vectors_and_another_compiler(tmp_path, other):
    if not shutil.which(other.get("CXX", "g++")):
        pytest.skip("not here")
    (output,) = programs_output(tmp_path, **other)
    assert output == pytest.approx(carousel.LSTM(3, 7, backend="fused")(torch.ones(4, 2, 3))[0].sum().item(), rel=1e-5)
