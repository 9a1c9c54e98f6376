"""What autograd does around a layer, by the kernel as by the loop: higher orders, batches of gradients, in-place."""

import copy

import pytest
import torch
from agreement import needs_compiler
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.functional import relu
from torch.utils.checkpoint import checkpoint

import carousel
from carousel import gradients

pytestmark = needs_compiler
F64 = {"dtype": torch.float64}


class Leaky(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return ((0.5 * state[0] + 0.5 * (wx + uh).tanh()),), {}


LAYERS = {
    "rnn": lambda: carousel.RNN(4, 4, **F64),
    "gru_2": lambda: carousel.GRU(4, 4, 2, **F64),
    "lstm": lambda: carousel.LSTM(4, 4, **F64),
    "own": lambda: carousel.Recurrent(Leaky, 4, 4, **F64),
}


def chain(layer, x):
    y, state = x[:1], None
    for _ in range(10):
        y, state = layer(y, state)
    return y


def from_input(layer, x):
    zeros = [torch.zeros(layer.num_layers, x.size(1), 4, **F64)]
    hx = tuple(z + x[0].tanh() for z in zeros * len(layer.cell().states))
    return layer(x, hx if len(hx) > 1 else hx[0])[0]


def chunks(layer, x):
    first, state = layer(x[:3])
    return first.sum() + layer(x[3:], state)[0]


def tied(layer, x):
    layer.weight_hh_l0 = layer.weight_ih_l0
    return layer(x)[0]


@pytest.mark.parametrize("program", [chain, from_input, chunks, tied, lambda layer, x: layer(layer(x)[0])[0]])
@pytest.mark.parametrize("name", LAYERS)
def test_inputs_that_depend_on_each_other(name, program):
    fused = LAYERS[name]()
    fused.backend = "fused"
    eager = copy.deepcopy(fused)
    eager.backend = "eager"
    x = torch.randn(6, 2, 4, **F64)
    found = []
    for layer in (fused, eager):
        given = x.clone().requires_grad_()
        loss = program(layer, given).pow(2).sum()
        wanted = [given, *layer.parameters()]
        first = torch.autograd.grad(loss, wanted, create_graph=True)
        penalty = sum(g.pow(2).sum() for g in first)
        found.append([*first, *torch.autograd.grad(penalty, wanted)])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [carousel.RNN, carousel.GRU, carousel.LSTM])
def test_batches_of_arriving_gradients(kind):
    layer = kind(3, 5, **F64)
    x = torch.randn(4, 2, 3, **F64)
    whole, loop = [], copy.copy(layer)
    loop.backend = "eager"
    for module in (layer, loop):
        for vectorize in (True, False):
            jacobian = torch.autograd.functional.jacobian(lambda x, m=module: m(x)[0], x, vectorize=vectorize)
            whole.append(jacobian)
    for other in whole[1:]:
        torch.testing.assert_close(whole[0], other)

    def loss(x):
        return layer(x)[0].pow(2).sum()

    hessians = [torch.autograd.functional.hessian(loss, x[:2], vectorize=v) for v in (True, False)]
    torch.testing.assert_close(*hessians)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_outputs_that_are_changed_in_place(kind, layers, dtype):
    layer = getattr(carousel, kind)(3, 5, layers, dtype=dtype)
    x = torch.randn(6, 2, 3, dtype=dtype)
    for change in (lambda y: relu(y, inplace=True), lambda y: y.mul_(2), lambda y: y.data.mul_(2) * 0 + y):
        found = []
        for backend in ("fused", "eager"):
            layer.backend = backend
            found.append(torch.autograd.grad(change(layer(x)[0]).sum(), layer.parameters()))
        torch.testing.assert_close(*found)


def watched(layer, run):
    with gradients.watch(layer) as flows:
        run(layer)
    return [flow.log10_norm[name] for flow in flows for name in flow.log10_norm]


def test_every_backward_pass_is_watched():
    x = torch.randn(9, 2, 3, requires_grad=True, **F64)

    def twice(layer):
        y = layer(x)[0]
        y[-1].sum().backward(retain_graph=True)
        y[0].sum().backward()

    def same(layer):
        loss = layer(x)[0][-1].sum()
        loss.backward(retain_graph=True)
        loss.backward()

    def differentiable(layer):
        torch.autograd.grad(layer(x)[0][-1].sum(), x, create_graph=True)

    def without(layer):
        with torch.no_grad():
            layer(x)
        layer(x)[0][-1].sum().backward()

    def repacked(layer):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.clone()):
            y = layer(x)[0]
        y[-1].sum().backward()

    def recomputed(layer, reentrant=False):
        checkpoint(lambda x: layer(x)[0], x, use_reentrant=reentrant)[-1].sum().backward()

    def vectorized(layer):
        y = layer(x)[0][-1, 0]
        torch.autograd.grad(y, x, torch.eye(len(y), **F64), is_grads_batched=True)

    fused = carousel.LSTM(3, 5, 2, backend="fused", **F64)
    eager = copy.deepcopy(fused)
    eager.backend = "eager"
    direct = gradients.flow(fused, lambda: fused(x)[0][-1].sum())
    expected = [flow.log10_norm[name] for flow in direct for name in ("h", "c")]
    for run in (differentiable, without, repacked, recomputed, lambda m: recomputed(m, True)):
        for layer in (fused, eager):
            torch.testing.assert_close(watched(layer, run), expected)
    for run in (twice, same):
        found = watched(fused, run)
        assert len(found) == 4
        torch.testing.assert_close(found, watched(eager, run))
    assert len(watched(fused, vectorized)) == 4


def test_a_copy_made_meanwhile_is_not_watched():
    layer = carousel.LSTM(3, 5)
    x = torch.randn(4, 2, 3)
    with gradients.watch(layer) as flows:
        average = torch.optim.swa_utils.AveragedModel(layer)
        for twin in (copy.deepcopy(layer), copy.copy(layer), average.module):
            twin(x)[0].sum().backward()
            with gradients.watch(twin):
                pass
        layer(x)[0].sum().backward()
    assert len(flows) == 1


def test_a_compiled_layer_is_watched_outside_of_its_graphs():
    layer, x = carousel.LSTM(3, 5), torch.randn(4, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager")
    compiled(x)
    (expected,) = gradients.flow(layer, lambda: layer(x)[0].sum())
    for _ in range(10):
        with gradients.watch(layer) as flows:
            compiled(x)[0].sum().backward()
        (flow,) = flows
        torch.testing.assert_close(flow.log10_norm, expected.log10_norm, check_dtype=False)
    torch._dynamo.reset()
    whole = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with gradients.watch(layer), pytest.raises(Exception, match="the function `watched`"):
        whole(x)


class Tuned(carousel.Cell):
    """Reads the maps' biases once more."""

    gates = ("a",)

    def update(self, wx, uh, state):
        return ((wx + uh * self.bias_hh + self.bias_ih).tanh(),), {}


class Narrow(carousel.Cell):
    gates, projectable = ("a",), True

    def update(self, wx, uh, state):
        return ((wx + uh).tanh(),), {}


def same_as_the_loop(layer, x, *arguments):
    found = []
    for backend in ("auto", "eager"):
        layer.backend = backend
        y = layer(x, *arguments)[0]
        found.append([y, *torch.autograd.grad(y.pow(2).sum(), layer.parameters())])
    torch.testing.assert_close(*found)


def test_a_bias_that_update_reads_too():
    same_as_the_loop(carousel.Recurrent(Tuned, 3, 5, **F64), torch.randn(4, 2, 3, **F64))


def test_widths_with_one_projection():
    layer = carousel.Recurrent(Narrow, 4, [10, 12], 2, proj_size=4, **F64)
    x = torch.randn(6, 2, 4, **F64)
    for _ in range(3):
        same_as_the_loop(layer, x)


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float16, torch.float64])
def test_a_state_of_another_type(backend, dtype):
    x, good, bad = torch.randn(4, 2, 3), torch.ones(1, 2, 5), torch.ones(1, 2, 5, dtype=dtype)
    layers = [carousel.RNN(3, 5), carousel.GRU(3, 5), carousel.Recurrent(Leaky, 3, 5), carousel.LSTM(3, 5)]
    for layer in layers:
        layer.backend = backend
        for hx in ((bad, good), (good, bad)) if isinstance(layer, carousel.LSTM) else (bad,):
            with pytest.raises(RuntimeError, match="must have the same dtype"):
                layer(x, hx)


def test_weights_of_another_shape_are_the_loops():
    layer, x = carousel.GRU(3, 5), torch.randn(4, 2, 3)
    (choice,) = carousel.explain(layer, x)
    assert choice.engine == "fused"
    wrong = {name: p.detach() for name, p in layer.named_parameters()} | {"weight_hh_l0": torch.zeros(15, 2)}
    with pytest.raises(RuntimeError, match="shape"):
        torch.func.functional_call(layer, wrong, (x,))
    with pytest.raises(RuntimeError, match="shape"):
        torch.func.functional_call(layer, wrong | {"weight_hh_l0": torch.zeros(15, 7)}, (x,))


def test_negative_bits_are_read():
    layer = carousel.GRU(3, 5)
    x = torch.randn(4, 2, 3, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    torch.testing.assert_close(layer(x)[0], layer(x.resolve_neg())[0])


def test_the_modules_of_torch_agree_at_second_order():
    ours, x = carousel.LSTM(4, 4, **F64), torch.randn(6, 2, 4, **F64)
    theirs = nn.LSTM(4, 4, **F64)
    theirs.load_state_dict(ours.state_dict())
    found = []
    for layer in (ours, theirs):
        loss = chunks(layer, x).pow(2).sum()
        first = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(g.pow(2).sum() for g in first), list(layer.parameters()))])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_transforms_of_torch_func_inside_what_is_compiled():
    layer, x = carousel.GRU(3, 5, dtype=torch.float64), torch.randn(3, 4, 2, 3, dtype=torch.float64)
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def call(x):
        return layer(x)[0]

    def loss(weights, x):
        return functional_call(layer, weights, (x,))[0].square().sum()

    for f, arguments in (
        (vmap(call), (x,)),
        (vmap(vmap(call)), (x.unsqueeze(0),)),
        (lambda x: jvp(call, (x,), (x,))[1], (x[0],)),
        (lambda weights, x: grad(loss)(weights, x), (weights, x[0])),
    ):
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(f, backend="aot_eager")(*arguments), f(*arguments))


def test_kernels_that_are_made_while_a_graph_is():
    layers = nn.ModuleList([carousel.GRU(3, 13, **F64), carousel.RNN(13, 4, **F64)])
    x = torch.randn(6, 2, 3, **F64)

    def run(x):
        return layers[1](layers[0](x)[0])[0]

    torch._dynamo.reset()
    made = torch.compile(run, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(made, run(x))
