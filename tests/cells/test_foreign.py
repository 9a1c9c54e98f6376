"""Modules of torch that take one step, in a layer: by the kernel as by the loop, and by it as they do it themselves."""

import copy

import pytest
import torch
from agreement import assert_same_with_gradients, fill, needs_compiler
from foreign_cells import CELLS
from torch import nn

import carousel

F64 = {"dtype": torch.float64}


class Concatenated(nn.Module):
    """An LSTM as it is often written, with a layer norm of the cell state."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.gates, self.norm = nn.Linear(input_size + hidden_size, 4 * hidden_size), nn.LayerNorm(hidden_size)

    def forward(self, x, state):
        h, c = state
        i, f, g, o = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.norm(c)), c


class Gated(nn.Module):
    """Much of it is made of the input alone."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, 3 * hidden_size), nn.Linear(hidden_size, 2 * hidden_size)
        self.inner = nn.Linear(hidden_size, hidden_size, bias=False)
        self.norm = nn.LayerNorm(3 * hidden_size)
        self.encoder = nn.Sequential(nn.Linear(input_size, 7), nn.Tanh(), nn.Linear(7, hidden_size))
        self.scale = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x, h):
        xr, xz, xn = self.norm(self.of_x(x)).chunk(3, -1)
        r, z = self.of_h(h).chunk(2, -1)
        r, z = torch.sigmoid(xr + r), torch.sigmoid(xz + z)
        skip = torch.where(x.mean(-1, keepdim=True) > 0, self.encoder(x), self.scale) + self.encoder(x).detach() ** 2
        return z * h + (1 - z) * torch.tanh(xn + self.inner(r * h) + self.scale * skip)


class Detached(nn.Module):
    """What it makes of the input and of parameters, with no gradient through some of it."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.a, self.b = nn.Parameter(torch.ones(hidden_size)), nn.Parameter(torch.ones(hidden_size))

    def forward(self, x, h):
        u = self.of_x(x)
        with torch.no_grad():
            scale = u.abs().mean(-1, keepdim=True)
        inner = self.of_h(h * self.b.detach()) + torch.zeros_like(u)
        return torch.tanh(u * self.a.detach() / scale + inner * self.a + self.b * u.detach())


class Computed(nn.Module):
    """Its matrices and vectors are made of parameters and buffers."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.weight = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.register_buffer("mask", torch.ones(hidden_size, hidden_size).tril().bool())
        self.scales = torch.arange(1.0, hidden_size + 1)
        nn.utils.parametrizations.weight_norm(self.of_x)

    def forward(self, x, h):
        rotation = torch.matrix_exp(self.weight - self.weight.T)
        masked = self.of_h.weight.masked_fill(~self.mask, 0) + torch.eye(h.size(1), dtype=h.dtype)
        with torch.no_grad():
            norm = torch.linalg.matrix_norm(self.weight, 2)
        made = torch.addmm(self.of_x(x) * self.of_h.bias.exp(), h, rotation, alpha=0.5)
        made = made + h @ nn.functional.normalize(masked) + h @ self.weight.detach() / norm
        return torch.tanh(made * torch.softmax(self.weight, 0)[1] + h / self.scales)


class Rotated(nn.Module):
    """Its units change places, alone and in pairs, before products and after."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.angles = nn.Parameter(torch.empty(2, hidden_size // 2))

    def forward(self, x, h):
        a, b = h.view(-1, h.size(1) // 2, 2).unbind(-1)
        cos, sin = self.angles[1].cos(), self.angles[1].sin()
        pairs = torch.stack([cos * a - sin * b, self.angles[0] * a + cos * b], -1).flatten(1)
        swapped = torch.cat([b, a], -1)
        return torch.tanh(self.of_x(x).roll(1, -1) + self.of_h(swapped) * h[:, 1:2] + pairs.flip(-1))


class Overwritten(nn.Module):
    """It writes over what it has made of the input, and over a product."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, h):
        u, product = self.of_x(x), self.of_h(h)
        before = u + h
        u *= 0.5
        u.add_(product)
        product *= u
        return torch.tanh(before + product + u)


ENGINES = dict.fromkeys(CELLS, "fused") | {"liquid": "eager"}  # arithmetic with a matrix of synapses for each sequence


@needs_compiler
@pytest.mark.parametrize("name", CELLS)
def test_cells_of_others(name):
    """With lengths, states carried on, two layers in both directions, and a parameter frozen."""
    kind, states = CELLS[name]
    torch.manual_seed(0)
    layer = carousel.Recurrent(kind, 16, 8, 2, bidirectional=True, states=states, **F64)
    next(layer.eval().parameters()).requires_grad_(False)
    x = torch.randn(5, 3, 16, **F64, requires_grad=True)
    hx = [torch.rand(4, 3, size, **F64, requires_grad=True) for size in layer.cell().state_sizes]
    wanted = [x, *hx, *(p for p in layer.parameters() if p.requires_grad)]

    def run(backend):
        layer.backend = backend
        y, last = layer(x, tuple(hx) if len(hx) > 1 else hx[0], lengths=[5, 2, 4])
        last = last if isinstance(last, tuple) else (last,)
        loss = sum(s.square().sum() for s in (y.sin(), *last))
        given = {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad(loss, wanted, retain_graph=True, **given)
        if name == "nested_lstm":  # torch has no second derivative of hardsigmoid
            return [y, *last, *first]
        (again,) = torch.autograd.grad(loss, x, create_graph=True)
        return [y, *last, *first, *torch.autograd.grad(again.square().sum(), wanted, **given)]

    assert {choice.engine for choice in carousel.explain(layer, x, lengths=[5, 2, 4])} == {ENGINES[name]}
    if ENGINES[name] == "fused":
        torch.testing.assert_close(run("fused"), run("eager"), rtol=1e-9, atol=1e-9)


def test_states_of_several_widths():
    kind, sizes = CELLS["hyper_lstm"]
    layer = carousel.Recurrent(kind, 6, 8, 2, states=sizes, backend="eager")
    assert layer.cell().states == ("h", "c", "h_hat", "c_hat")
    output, last = layer(torch.randn(3, 2, 6), lengths=[3, 1])
    assert output.shape == (3, 2, 8)
    assert [tuple(s.shape) for s in last] == [(2, 2, 8), (2, 2, 8), (2, 2, 5), (2, 2, 5)]
    assert "'h_hat': 5" in repr(layer.cell())
    with pytest.raises(RuntimeError, match=r"Expected hidden\[2\] size \(2, 2, 5\), got \[2, 2, 8\]"):
        layer(torch.randn(3, 2, 6), tuple(torch.zeros(2, 2, 8) for _ in sizes))
    with pytest.raises(TypeError, match="or their features if these differ"):
        carousel.Recurrent(kind, 6, 8)
    with pytest.raises(ValueError, match="the first state is the output, of 4 features"):
        carousel.Recurrent(kind, 6, [8, 4], 2, states=sizes)


class Sorted(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_x = nn.Linear(input_size, hidden_size)

    def forward(self, x, h):
        return (self.of_x(x) + h).sort(-1).values


def unrolled(module, x, state):
    outputs = []
    for row in x:
        state = module(row, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs), state


@needs_compiler
@pytest.mark.parametrize("kind", [Concatenated, Gated, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_as_it_is_by_itself(kind):
    module = fill(kind(5, 6).double())
    layer = carousel.Recurrent(module, 5, 6, backend="fused")
    assert [p is q for p, q in zip(layer.parameters(), module.parameters(), strict=True)]
    x, state = torch.randn(7, 3, 5, **F64), torch.randn(3, 6, **F64)
    several = isinstance(layer.cell()(x[0]), tuple)
    y, last = layer(x, (state[None], state[None]) if several else state[None])
    outputs, final = unrolled(module, x, (state, state) if several else state)
    torch.testing.assert_close(y, outputs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(last[0] if several else last, (final[0] if several else final)[None])


@needs_compiler
@pytest.mark.parametrize("kind", [Concatenated, Gated, Detached, Computed, Rotated, Overwritten, nn.GRUCell])
def test_layers_of_a_class(kind):
    fused = fill(
        carousel.Recurrent(
            kind, 5, 6, 2, states=2 if kind is Concatenated else 1, bidirectional=True, backend="fused", **F64
        )
    )
    eager = copy.deepcopy(fused)
    eager.backend = "eager"

    class Called(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, lengths=[9, 4, 6])

    assert_same_with_gradients(Called(fused), Called(eager), torch.randn(9, 3, 5, **F64), tolerance=1e-9)


class Activated(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.of_h = nn.Sequential(nn.Linear(5, 5), activation)

    def forward(self, x, h):
        return self.of_h(h) + x


@needs_compiler
def test_modules_that_differ_in_their_parts_alone():
    x = torch.randn(3, 2, 5, **F64)
    for activation in (nn.Tanh(), nn.ReLU()):
        module = Activated(activation).double()
        layer = carousel.Recurrent(module, 5, 5, backend="fused")
        torch.testing.assert_close(layer(x)[0], unrolled(module, x, x.new_zeros(2, 5))[0])


@needs_compiler
@pytest.mark.parametrize(("kind", "states"), [(Concatenated, 2), (Computed, 1)])
def test_second_derivatives_and_compiling(kind, states):
    layer = fill(carousel.Recurrent(kind, 2, 3, states=states, backend="fused", **F64))
    x, weights = torch.randn(3, 2, 2, **F64, requires_grad=True), list(layer.parameters())

    def second(backend):
        layer.backend = backend
        (first,) = torch.autograd.grad(layer(x)[0].sin().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [x, *weights])

    torch.testing.assert_close(second("fused"), second("eager"), rtol=1e-9, atol=1e-9)
    layer.backend = "fused"
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for a, b in zip(compiled(x), layer(x), strict=True):
        torch.testing.assert_close(a, b)
    found = [torch.autograd.grad(m(x)[0].sin().sum(), weights) for m in (compiled, layer)]
    torch.testing.assert_close(*found)


@needs_compiler
def test_what_is_made_of_the_input_is_done_for_all_steps_at_once():
    from carousel.engine.registry import REGISTRY

    carousel.Recurrent(Concatenated, 5, 6, backend="fused")(torch.randn(4, 2, 5))
    step = list(vars(REGISTRY.kernels).values())[-1].step
    assert [size for size in step.sizes if size] == [6] * 4  # of the gates, not x itself
    assert "itself.gates.weight" in step.early


def test_names_sizes_and_errors():
    layer = carousel.Recurrent(Concatenated(5, 6))
    assert list(dict(layer.named_parameters()))[:2] == ["gates_weight_l0", "gates_bias_l0"]
    assert (layer.input_size, layer.hidden_size, layer.cell().states) == (5, 6, ("h", "c"))
    assert repr(layer).startswith("Recurrent(Concatenated, 5, 6")
    assert carousel.Recurrent(Gated(5, 6), 5, 6, states=("memory",)).cell().states == ("memory",)
    with pytest.raises(TypeError, match="input_size is missing, and Gated does not tell it"):
        carousel.Recurrent(Gated(5, 6))
    with pytest.raises(ValueError, match="input_size is 4, but Concatenated has 5"):
        carousel.Recurrent(Concatenated(5, 6), 4)
    with pytest.raises(ValueError, match="give its class to have more of them"):
        carousel.Recurrent(Concatenated(5, 6), num_layers=2)
    with pytest.raises(TypeError, match="does not return states like those that it is given"):
        carousel.Recurrent(nn.Linear, 5, 6)
    with pytest.raises(TypeError, match="or a module with forward"):
        carousel.Recurrent(torch.relu, 5, 6)
    with pytest.raises(ValueError, match="no projection"):
        carousel.Recurrent(nn.LSTMCell, 5, 6, proj_size=2)
    noisy = carousel.Recurrent(nn.LSTMCell, 5, 6, regularization=carousel.Regularization(recurrent=0.5))
    with pytest.raises(ValueError, match="needs a hidden map; LSTMCell has a forward of its own"):
        noisy(torch.randn(3, 2, 5))


@needs_compiler
def test_the_line_that_stands_in_the_way_is_named():
    layer = carousel.Recurrent(Sorted, 5, 6)
    (choice,) = carousel.explain(layer, torch.randn(3, 2, 5))
    assert choice.engine == "eager"
    assert choice.reason.startswith("Sorted: it uses aten.sort")
    assert "(test_foreign.py:" in choice.reason
    assert layer(torch.randn(3, 2, 5))[0].shape == (3, 2, 6)


class Frozen(Sorted):
    def forward(self, x, h):
        return torch.tanh(nn.functional.linear(x, self.of_x.weight.detach()) + h)


class Rounded(torch.autograd.Function):
    """Straight through."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, d):
        return d


class Straight(Sorted):
    def forward(self, x, h):
        return torch.tanh(Rounded.apply(self.of_x(x)) + h)


class Quantized(Sorted):
    def forward(self, x, h):
        scale = Rounded.apply(self.of_x.bias.exp() * 3)
        return torch.tanh(x @ (Rounded.apply(self.of_x.weight * 3) / 3).T + h * scale)


@pytest.mark.parametrize("kind", [Frozen, Straight, Quantized])
def test_gradients_of_its_own_are_left_to_the_loop(kind):
    layer = carousel.Recurrent(kind, 5, 6, **F64)
    x = torch.randn(3, 2, 5, **F64, requires_grad=True)
    found = []
    for backend in ("auto", "eager"):
        layer.backend = backend
        wanted = [x, *layer.parameters()]
        found.append(torch.autograd.grad(layer(x)[0].sum(), wanted, allow_unused=True, materialize_grads=True))
    torch.testing.assert_close(*found)


class Written(Sorted):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.register_buffer("decay", torch.full((hidden_size, hidden_size), 0.9))
        self.register_buffer("share", torch.full((hidden_size,), 0.9))

    def forward(self, x, h):
        self.decay = self.decay * 0.9
        return self.of_x(x) + h @ self.decay


class Counted(Sorted):
    def forward(self, x, h):
        self.calls = 1
        return self.of_x(x) + h


class InPlace(Written):
    def forward(self, x, h):
        self.share.mul_(0.9)
        return self.of_x(x) + h * self.share


class Dropped(Sorted):
    def forward(self, x, h):
        return self.of_x(x) + h @ nn.functional.dropout(self.of_x.weight)


@needs_compiler
@pytest.mark.parametrize(("kind", "why"), [(Written, "it writes to itself.decay"), (Dropped, "it uses aten.bernoulli")])
def test_what_has_to_be_done_in_each_step_is_left_to_the_loop(kind, why):
    (choice,) = carousel.explain(carousel.Recurrent(kind, 6, 6, states=1), torch.randn(3, 2, 6))
    assert choice.engine == "eager"
    assert why in choice.reason


@needs_compiler
@pytest.mark.parametrize(("kind", "name"), [(Written, "decay"), (Counted, "calls"), (InPlace, "share")])
def test_where_a_step_writes_to_its_module_is_said(kind, name):
    (choice,) = carousel.explain(carousel.Recurrent(kind, 6, 6, states=1), torch.randn(3, 2, 6))
    line = kind.forward.__code__.co_firstlineno + 1
    assert choice.reason.endswith(f"{name} (test_foreign.py:{line})")


@needs_compiler
def test_a_hook_on_a_part_of_it_is_heard():
    module = Concatenated(5, 6)
    layer, seen = carousel.Recurrent(module), []
    layer(torch.randn(3, 2, 5))
    module.norm.register_forward_hook(lambda *_: seen.append(1))
    layer(torch.randn(3, 2, 5))
    assert len(seen) == 3


class Bare(Sorted):
    """A part of it may be None, as of an option that is off."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_module("norm", None)

    def forward(self, x, state):
        return super().forward(x if self.norm is None else self.norm(x), state)


def test_a_part_that_is_none():
    layer, x = carousel.Recurrent(Bare, 3, 4, states=1, **F64), torch.randn(5, 2, 3, **F64)
    h = torch.zeros(2, 4, **F64)
    for row in x:
        h = layer.cell()(row, h)
    torch.testing.assert_close(layer(x)[1][0], h, rtol=1e-12, atol=1e-12)
