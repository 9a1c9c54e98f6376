"""Steps with any number of products, and with sums over the units: the kernel computes what the loop computes."""

import copy
import re
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from agreement import (
    CALLS,
    Seeded,
    asked_for,
    assert_same_with_gradients,
    fill,
    needs_compiler,
    on_threads,
    run_with_gradients,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import carousel
from carousel import Regularization
from carousel.cells import HighwayCell, LSTMVariantCell, SLSTMCell
from carousel.engine.eager import Kinds
from carousel.engine.fused import TARGETS
from carousel.engine.fused.plans import plan
from carousel.engine.registry import REGISTRY

pytestmark = needs_compiler
F64 = {"dtype": torch.float64}


class Cho(carousel.Cell):
    """The GRU of Cho et al. 2014: the reset gate before the product."""

    gates = ("r", "z", "n")

    def hidden_map(self, h):
        return h

    def update(self, wx, uh, state):
        (h,), H = state, self.hidden_size
        xr, xz, xn = wx.chunk(3, -1)
        r, z = F.linear(h, self.weight_hh[: 2 * H], self.bias_hh[: 2 * H]).chunk(2, -1)
        r, z = (xr + r).sigmoid(), (xz + z).sigmoid()
        n = (xn + F.linear(r * h, self.weight_hh[2 * H :], self.bias_hh[2 * H :])).tanh()
        return (z * h + (1 - z) * n,), {}


class LEM(carousel.Cell):
    """Rusch et al. 2022: the second product is of the new z."""

    gates, states = ("a", "b", "z", "y"), ("y", "z")

    def hidden_map(self, h):
        rows = 3 * self.hidden_size
        return F.linear(h, self.weight_hh[:rows], self.bias_hh[:rows])

    def update(self, wx, uh, state):
        (y, z), rows = state, 3 * self.hidden_size
        a, b, xz, xy = wx.chunk(4, -1)
        ya, yb, yz = uh.chunk(3, -1)
        dz, dy = (b + yb).sigmoid(), (a + ya).sigmoid()
        z = (1 - dz) * z + dz * (xz + yz).tanh()
        y = (1 - dy) * y + dy * (xy + F.linear(z, self.weight_hh[rows:], self.bias_hh[rows:])).tanh()
        return (y, z), {}


class LowRank(carousel.Cell):
    """U = A B, with something in between; and a matrix of one row."""

    gates = ("h",)

    def shapes(self):
        H = self.hidden_size
        return super().shapes() | {"weight_hh": (H, 3), "down": (3, H), "shift": (3,), "one": (1, H), "all": (1,)}

    def hidden_map(self, h):
        inner = F.linear(h, self.down, self.shift).tanh()
        return F.linear(inner, self.weight_hh, self.bias_hh) * F.linear(h, self.one, self.all).sigmoid()

    def update(self, wx, uh, state):
        return ((wx + uh).tanh(),), {}


class Heads(carousel.Cell):
    """In the form of an sLSTM (Beck et al. 2024): two heads, exponential gates, four states, a detached stabiliser."""

    gates, states = ("i", "f", "z", "o"), ("h", "c", "n", "m")

    def shapes(self):
        size = self.hidden_size // 2
        return super().shapes() | {"weight_hh": (2, size, 4 * size)}

    def hidden_map(self, h):
        size = self.hidden_size // 2
        product = torch.einsum("bhd,hde->bhe", h.view(-1, 2, size), self.weight_hh)
        return product.view(-1, 2, 4, size).transpose(1, 2).reshape(h.size(0), -1) + self.bias_hh

    def update(self, wx, uh, state):
        _, c, n, m = state
        i, f, z, o = (wx + uh).chunk(4, -1)
        kept = F.logsigmoid(f) + m
        top = torch.where(n == 0, i, torch.maximum(i, kept)).detach()
        i, f = (i - top).exp(), torch.where(n == 0, 0 * f, (kept - top).exp())
        c, n = f * c + i * z.tanh(), f * n + i
        return (o.sigmoid() * c / n, c, n, top), {}


class Sums(carousel.Cell):
    """Every reduction, over all units and over those of a head."""

    gates = ("a", "b")

    def update(self, wx, uh, state):
        a, b = (wx + uh).chunk(2, -1)
        shape = a.shape
        a, b = F.rms_norm(a, shape[-1:]) + F.normalize(state[0], dim=-1), b.softmax(-1) * 3
        heads = a.view(-1, 2, shape[-1] // 2)
        heads = (
            heads - heads.mean(-1, keepdim=True) + heads.amax(-1, keepdim=True) * b.view_as(heads).amin(-1)[..., None]
        )
        whole = b.std(-1, keepdim=True) + a.logsumexp(-1, keepdim=True) + heads.sum((1, 2))[:, None]
        return ((heads.reshape(shape) + 0.1 * whole * b).tanh(),), {}


class Deep(HighwayCell):
    """A recurrent highway of two layers (Zilly et al. 2017), the second with weights of its own."""

    def shapes(self):
        return super().shapes() | {"deeper": (2 * self.hidden_size, self.hidden_size)}

    def update(self, wx, uh, state):
        (h,), gates = super().update(wx, uh, state)
        a, b = F.linear(h, self.deeper).chunk(2, -1)
        return (h + b.sigmoid() * (a.tanh() - h),), gates


class Tied(carousel.Cell):
    """One matrix, there and back."""

    gates = ("h",)

    def update(self, wx, uh, state):
        return ((wx + F.linear(uh.tanh(), self.weight_hh.t())).tanh(),), {}


CELLS = {c.__name__: (c, {}) for c in (Cho, LEM, LowRank, Heads, Sums, Deep, Tied)}
CELLS["layer_norm"] = LSTMVariantCell, {"layer_norm": True, "peephole": True}
CELLS["gate_recurrence"] = LSTMVariantCell, {"full_gate_recurrence": True, "coupled": True}
CELLS["projected"] = LSTMVariantCell, {"layer_norm": True, "proj_size": 3}


def pair(cell, *sizes, **options):
    fused = fill(carousel.Recurrent(cell, *sizes, backend="fused", **options))
    eager = copy.deepcopy(fused)
    eager.backend = "eager"
    return fused, eager


def states(layer, batch):
    cells = layer.num_layers * (1 + layer.bidirectional)
    drawn = tuple(torch.rand(cells, batch, size, **F64) + 0.1 for size in layer.cell().state_sizes)
    return drawn if len(drawn) > 1 else drawn[0]


@pytest.mark.parametrize("name", CELLS)
def test_cells(name):
    cell, options = CELLS[name]
    fused, eager = pair(cell, 5, 18, bidirectional=True, **F64, **options)  # gradients arrive that are not contiguous
    assert_same_with_gradients(fused, eager, torch.randn(40, 5, 5, **F64), states(fused, 5), tolerance=1e-9)


@pytest.fixture
def split(monkeypatch):
    """Sets the threads, how many of them make a team, and whose they are."""
    before = torch.get_num_threads()

    def by(threads: int, team: int, openmp: bool = True) -> None:
        torch.set_num_threads(threads)
        monkeypatch.setattr(TARGETS["cpu"], "team", team)
        monkeypatch.setattr(TARGETS["cpu"], "openmp", openmp)

    yield by
    torch.set_num_threads(before)


SPLITS = [(1, 0), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]
"""Threads, and how many make a team."""


@pytest.mark.parametrize("name", ["Cho", "Heads", "Sums", "layer_norm"])
def test_however_the_work_is_split(split, name):
    cell, options = CELLS[name]
    fused, eager = pair(cell, 5, 18, **F64, **options)
    with torch.no_grad():  # or rounding errors would grow from step to step
        for parameter in (*fused.parameters(), *eager.parameters()):
            parameter *= 0.3
    for steps, batch in (160, 2), (12, 70):  # with threads that are left without a sequence, and with several groups
        masks = {"reset": torch.rand(steps, batch) < 0.1, "lengths": [steps, 4] * (batch // 2)}
        ours, loop = (Seeded(layer, **(masks if name == "Heads" else {})) for layer in (fused, eager))
        x, before = torch.randn(steps, batch, 5, **F64), states(fused, batch)
        expected = run_with_gradients(loop, x, before)
        for (threads, team), openmp in product(SPLITS, (True, False)):
            split(threads, team, openmp)
            found = run_with_gradients(ours, x, before)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
            if team > 1:  # and whoever comes first, in the same order
                assert all(map(torch.equal, found, run_with_gradients(ours, x, before)))


@pytest.mark.parametrize("name", ["Heads", "layer_norm", "projected"])
def test_masks_and_both_directions(name):
    cell, options = CELLS[name]
    noise = Regularization(zoneout=0.3, recurrent=0.4)
    fused, eager = pair(cell, 3, 6, 2, bidirectional=True, regularization=noise, **F64, **options)
    reset = torch.rand(9, 3) < 0.3
    call = {"lengths": [9, 3, 5], "reset": reset}
    x = torch.randn(9, 3, 3, **F64)
    assert_same_with_gradients(Seeded(fused, **call), Seeded(eager, **call), x, states(fused, 3), tolerance=1e-9)


@pytest.mark.parametrize("cell", [carousel.GRUCell, Cho])
def test_a_source_begins_with_what_its_constants_say(cell):
    key, _ = plan(cell(5, 18), "cpu", torch.float64, Kinds())
    for source in REGISTRY.kernels[key].kernel.sources.values():
        legend, rest = source[: source.index("\n};")], source[source.index("#include") :]
        lines = [line for line in legend.splitlines() if line.startswith(("constexpr", "  "))]
        assert all(re.search(r";  // .", line) for line in lines)
        known = re.findall(r"constexpr \w+ (\w+)", legend)
        assert {"WIDTH", "STATES", "EXTRA", "SAVED", "CHUNK"} < set(known)
        assert not re.search(rf"constexpr \w+ ({'|'.join(known)})\b", rest)


def test_heads_do_the_work_of_heads_only():
    units, heads = 8, 4
    key, _ = plan(SLSTMCell(3, units, heads=heads), "cpu", torch.float64, Kinds())
    dense = 4 * units * units
    for which, products in (("forward", 1), ("backward", 2)):  # back to h, and to the matrices
        (work,) = re.findall(r"constexpr long WORK = (\d+);", REGISTRY.kernels[key].kernel.sources[which])
        assert int(work) * heads == products * dense


@pytest.mark.parametrize(
    "detach", [carousel.Detach(gates=1), carousel.Detach(carousel=1), carousel.Detach(gates=0.5, carousel=0.4)]
)
def test_weights_learn_where_no_gradient_goes_back(detach):
    fused, eager = pair(LSTMVariantCell, 5, 6, detach=detach, layer_norm=True, **F64)
    assert_same_with_gradients(
        Seeded(fused), Seeded(eager), torch.randn(7, 2, 5, **F64), states(fused, 2), tolerance=1e-9
    )


def test_second_derivatives():
    layer = fill(carousel.Recurrent(Cho, 2, 3, backend="fused", **F64))
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))[0]

    given = [torch.randn(3, 2, 2, **F64), *(p.detach().clone() for p in layer.parameters())]
    assert torch.autograd.gradgradcheck(run, [t.requires_grad_() for t in given])


def test_gradients_norms_are_watched(split):
    fused, eager = pair(LEM, 5, 18, **F64)
    x, found = torch.randn(80, 2, 5, **F64), []
    for layer, team in (eager, 1), (fused, 1), (fused, 2):
        split(2, team)
        with carousel.gradients.watch(layer) as flows:
            layer(x)[0][-1].sum().backward()
        found.append([flow.log10_norm[name] for flow in flows for name in ("y", "z")])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.optimized
def test_float32_is_within_4_times_the_loops_own_error():
    fused, eager = pair(LSTMVariantCell, 8, 40, layer_norm=True)
    exact, x = copy.deepcopy(eager).double(), torch.randn(300, 9, 8)
    found = []
    for layer in (fused, eager, exact):
        y = layer(x.to(layer.weight_ih_l0.dtype))[0]
        found.append([y, *torch.autograd.grad(y.square().mean(), list(layer.parameters()))])
    for mine, loops, truth in zip(*found, strict=True):
        wrong = [((t.double() - truth).norm() / truth.norm()).item() for t in (mine, loops)]
        assert wrong[0] <= 4 * wrong[1] + 1e-7


UNARY = (torch.tanh, torch.sigmoid, F.softplus, lambda a: a * 0.5, lambda a: 1 - a)
BINARY = (torch.add, torch.mul, torch.maximum, lambda a, b: torch.where(a > b, a, -b))
REDUCTIONS = (
    lambda a: a - a.mean(-1, keepdim=True),
    lambda a: F.layer_norm(a, a.shape[-1:]),
    lambda a: a.softmax(-1),
    lambda a: a * a.amax(-1, keepdim=True),
)


KINDS = ("unary", "binary", "product", "low rank", "heads", "extra", "sum", "sum of a head")


@st.composite
def programs(draw):
    """How each value is made of those before it, and which become the states."""
    steps = []
    for k in range(draw(st.integers(4, 9))):
        kind = draw(st.sampled_from(KINDS))
        last = 4 + k  # of the input's values and the first state's at least one each
        steps.append((kind, draw(st.integers(0, 9)), draw(st.integers(0, last)), draw(st.integers(0, last))))
    return steps, draw(st.integers(1, 4))


def generated(program, count) -> type[carousel.Cell]:
    class Generated(carousel.Cell):
        gates = ("a", "b")
        states = tuple("hcnm"[:count])

        def shapes(self):
            H = self.hidden_size
            of = {"product": (H, H), "low rank": (2, H, 2), "heads": (2, H // 2, H // 2), "extra": (H,)}
            return super().shapes() | {f"w{k}": of[kind] for k, (kind, *_) in enumerate(program) if kind in of}

        def update(self, wx, uh, state):
            values = [*wx.chunk(2, -1), *uh.chunk(2, -1), *state]
            for number, (kind, which, i, j) in enumerate(program):
                a, b = (values[k % len(values)] for k in (i, j))
                w = getattr(self, f"w{number}", None)
                if kind == "unary":
                    made = UNARY[which % len(UNARY)](a)
                elif kind == "binary":
                    made = BINARY[which % len(BINARY)](a, b)
                elif kind == "product":
                    made = F.linear(a, w).tanh()
                elif kind == "low rank":
                    made = F.linear(a @ w[0], w[1])
                elif kind == "heads":
                    made = torch.einsum("bhd,hde->bhe", a.view(-1, 2, a.size(-1) // 2), w).reshape(a.shape).tanh()
                elif kind == "extra":
                    made = a * w
                elif kind == "sum":
                    made = REDUCTIONS[which % len(REDUCTIONS)](a)
                else:
                    made = REDUCTIONS[which % len(REDUCTIONS)](a.view(-1, 2, a.size(-1) // 2)).reshape(a.shape)
                values.append(made)
            mixed = values[-1] + values[2]
            return tuple((0.5 * s + v + 0.1 * mixed).tanh() for s, v in zip(state, values[::-1], strict=False)), {}

    return Generated


@pytest.mark.optimized
@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate])
@given(programs(), st.sampled_from([6, 10, 16]), CALLS, st.integers(0, 99))
def test_generated_cells(program, hidden, call, seed):
    torch.manual_seed(seed)
    steps, batch = 6, 70  # for which threads are worth it
    options, given = asked_for(call, steps, batch)
    fused, eager = pair(generated(*program), 3, hidden, **options, **F64)
    with on_threads(call["threads"]):
        x = torch.randn(steps, batch, 3, **F64)
        ours, loop = (Seeded(layer, **given) for layer in (fused, eager))
        assert_same_with_gradients(ours, loop, x, states(fused, batch), tolerance=1e-9)


def test_second_derivatives_of_a_generated_cell():
    kinds = ("product", "low rank", "heads", "extra", "sum", "sum of a head", "binary")
    layer = fill(carousel.Recurrent(generated([(kind, 1, 2 + k, 4) for k, kind in enumerate(kinds)], 2), 2, 4, **F64))
    names = [name for name, _ in layer.named_parameters()]
    call = {"lengths": [3, 2], "reset": torch.tensor([[0, 0], [1, 0], [0, 0]]).bool()}

    def run(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,), call)[0]

    given = [torch.randn(3, 2, 2, **F64), *(p.detach().clone() for p in layer.parameters())]
    with torch.enable_grad():
        assert torch.autograd.gradgradcheck(run, [t.requires_grad_() for t in given], fast_mode=True)
