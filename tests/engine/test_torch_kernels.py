"""torch's own kernels as an engine: what torch.nn's layers compute, to the bit, and what the loop computes."""

import copy
import warnings

import pytest
import torch
from agreement import LAYERS, assert_same_with_gradients, needs_compiler, run_with_gradients, tensors
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import carousel
from carousel import Detach, Regularization, gradients

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
F64 = {"dtype": torch.float64}
OPTIONS = {
    "one": {},
    "stack": {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
    "batch_first": {"num_layers": 2, "batch_first": True, "bias": False},
    "projected": {"num_layers": 2, "bidirectional": True, "proj_size": 2},
}
CASES = [(name, options) for name in LAYERS for options in OPTIONS if options != "projected" or name == "lstm"]


def pair(name, inputs=3, **options):
    ours, theirs, more = LAYERS[name]
    layers = []
    for kind, backend in ((ours, {"backend": "torch"}), (theirs, {})):
        torch.manual_seed(0)
        layers.append(kind(inputs, 5, **more, **options, **backend))
    return layers


def state(layer, *shape, **kind):
    drawn = [torch.randn(layer.num_layers * (1 + layer.bidirectional), *shape, 5, **kind) for _ in range(2)]
    if layer.proj_size:
        drawn[0] = drawn[0][..., : layer.proj_size]
    return tuple(drawn) if layer.mode == "LSTM" else drawn[0]


class Seeded(nn.Module):
    """A module called with this noise, and these lengths packed or given as such."""

    def __init__(self, module, lengths=None, **given):
        super().__init__()
        self.module, self.lengths, self.given = module, lengths, given

    def forward(self, x, *hx):
        torch.manual_seed(3)
        if self.lengths is not None:
            x = pack_padded_sequence(x, torch.tensor(self.lengths), self.module.batch_first, enforce_sorted=False)
        out, last = self.module(x, *hx, **self.given)
        return (out.data if isinstance(out, PackedSequence) else out), last


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_same_bits_as_torchs(name, options, device):
    ours, theirs = pair(name, **OPTIONS[options], device=device)
    for shape, rows in (((4, 4, 3), (4,)), ((4, 3), ())):
        x = torch.randn(*shape, device=device)
        for hx in ((), (state(theirs, *rows, device=device),)):
            for lengths in (None, [2, 4, 1, 3]) if rows else (None,):
                modules = [Seeded(module, lengths) for module in (ours, theirs)]
                assert_same_with_gradients(*modules, x, *hx, tolerance=0 if device == "cpu" else 1e-6)
    for choice in carousel.explain(ours, x):
        assert choice == ("torch", "backend='torch'")


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_loops_numbers(name, options):
    ours, _ = pair(name, **OPTIONS[options] | {"dropout": 0.0}, **F64)
    loop = copy.deepcopy(ours)
    loop.backend = "eager"
    x, hx = torch.randn(4, 4, 3, **F64), state(ours, 4, **F64)
    assert_same_with_gradients(ours, loop, x, hx)
    padded = [Seeded(layer, lengths=[4, 2, 1, 3]) for layer in (ours, loop)]
    assert_same_with_gradients(*padded, x, hx)


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_of_padded_input(name):
    ours, _ = pair(name, num_layers=2, bidirectional=True, batch_first=True, **F64)
    loop = copy.deepcopy(ours)
    loop.backend = "eager"
    x, hx = torch.randn(4, 6, 3, **F64), state(ours, 4, **F64)
    x[1, 2:] = float("nan")

    class Called(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, hx):
            out, last = self.layer(x, hx, lengths=[5, 2, 1, 3])
            return out.contiguous(), last  # the loss is drawn as it lies

    assert_same_with_gradients(Called(ours), Called(loop), hx)
    assert ours(x, lengths=[5, 2, 1, 3])[0].shape == (4, 6, 10)
    with pytest.raises(ValueError, match="lengths should be from 1 to 6"):
        ours(x, lengths=[7, 2, 1, 3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives_on_a_cpu(name, dtype):
    ours, _ = pair(name, num_layers=2, bidirectional=True, dtype=dtype)
    loop = copy.deepcopy(ours)
    loop.backend = "eager"
    x, found = torch.randn(4, 2, 3, dtype=dtype, requires_grad=True), []
    for layer in (ours, loop):
        wanted = [x, *layer.parameters()]
        first = torch.autograd.grad(layer(x)[0].pow(2).sum(), wanted, create_graph=True)
        found.append(torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted))
    torch.testing.assert_close(*found, **({"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}))


@pytest.mark.parametrize("name", LAYERS)
def test_options_that_leave_each_layer_to_a_call_of_its_own(name):
    noise = Regularization(input=0.3, weight=0.2)
    ours, _ = pair(name, num_layers=2, bidirectional=True, **F64)
    ours.regularization = noise
    loop = copy.deepcopy(ours)
    loop.backend = "eager"
    x = torch.randn(4, 2, 3, **F64)
    assert_same_with_gradients(Seeded(ours), Seeded(loop), x, state(ours, 2, **F64))
    assert {choice.engine for choice in carousel.explain(ours, x)} == {"torch"}
    widths = carousel.GRU(3, [5, 4], 2, backend="torch", **F64)
    loop = copy.deepcopy(widths)
    loop.backend = "eager"
    assert_same_with_gradients(widths, loop, x)


def test_what_torchs_kernels_lack_is_refused_by_name():
    x, reset = torch.randn(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool)

    class Mine(carousel.LSTMCell):
        pass

    def layer(**options):
        return carousel.LSTM(3, 5, backend="torch", **options)

    for name, call in {
        "no reset": lambda: layer()(x, reset=reset),
        "no recurrent dropout": lambda: layer(regularization=Regularization(recurrent=0.5))(x),
        "no zoneout": lambda: layer(regularization=Regularization(zoneout=0.5))(x),
        "no detached gradients": lambda: layer(detach=Detach(gates=1))(x),
        "show no gates": lambda: layer().inspect(x),
        "torch has no kernel for Mine": lambda: carousel.Recurrent(Mine, 3, 5, backend="torch")(x),
        "torch has no kernel for MGUCell": lambda: carousel.Recurrent(carousel.cells.MGUCell, 3, 5, backend="torch")(x),
    }.items():
        with pytest.raises(RuntimeError, match=f"backend='torch' cannot run this: .*{name}"):
            call()
    with pytest.raises(RuntimeError, match="norms of gradients"), gradients.watch(watched := layer()):
        watched(x)
    (choice,) = carousel.explain(layer(), x, reset=reset)
    assert choice == ("eager", "torch's kernels have no reset")


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision(name, dtype):
    """In half precision, and under autocast, the numbers and the types are torch's."""
    for ours, theirs in (pair(name, num_layers=2), pair(name, num_layers=2, dtype=dtype)):
        ours.backend, kind = "auto", next(theirs.parameters()).dtype
        x, hx = torch.randn(4, 2, 3, dtype=kind), state(ours, 2, dtype=kind)
        with torch.autocast("cpu", dtype=dtype, enabled=kind == torch.float32):
            if name == "lstm" and dtype == torch.float16 != kind:  # which torch's refuses
                assert carousel.explain(ours, x)[0].engine == "fused"
                continue
            for given in ((x,), (x, hx)):
                mine, reference = run_with_gradients(ours, *given), run_with_gradients(theirs, *given)
                assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(mine, reference, strict=True))
            (choice, _) = carousel.explain(ours, x)
        assert choice.engine == "torch"
        assert ("autocast is on" if kind == torch.float32 else str(dtype)) in choice.reason


def test_weights_that_are_frozen_shared_computed_or_swapped():
    ours, theirs = pair("lstm", 5, num_layers=2)
    x = torch.randn(4, 2, 5)
    for layer in (ours, theirs):
        layer.weight_hh_l1 = layer.weight_ih_l1
        layer.bias_ih_l0.requires_grad_(False)
        weight_norm(layer, "weight_hh_l0")
    results = []
    for layer in (ours, theirs):
        layer(x)[0].pow(2).sum().backward()
        results.append({name: p.grad for name, p in layer.named_parameters()})
    assert results[0]["bias_ih_l0"] is None
    torch.testing.assert_close(*results, rtol=0, atol=0)
    ours, theirs = pair("gru")
    weights = {name: torch.rand_like(p) for name, p in theirs.named_parameters()}
    x = torch.randn(4, 2, 3)
    results = [torch.func.functional_call(layer, weights, (x,)) for layer in (ours, theirs)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(weights[name])
    torch.testing.assert_close(ours(x), results[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_an_export_holds_one_operator(name):
    ours, theirs = pair(name, num_layers=2, bidirectional=True)
    ours.backend = "auto"
    x, longer = torch.randn(4, 2, 3), torch.randn(9, 2, 3)
    program = torch.export.export(ours.eval(), (x,))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum(name.startswith(("aten.lstm", "aten.gru", "aten.rnn_")) for name in called) == 1
    torch.testing.assert_close(program.module()(x), theirs.eval()(x))
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(ours, (x,))
    assert "aten::" + {"lstm": "lstm", "gru": "gru", "rnn": "rnn_tanh", "rnn_relu": "rnn_relu"}[name] in str(
        traced.graph
    )
    torch.testing.assert_close(traced(longer), theirs(longer))


def test_transforms_and_hooks_are_the_loops():
    ours, _ = pair("lstm", **F64)
    ours.backend = "auto"
    x = torch.randn(4, 2, 3, **F64)
    weights = dict(ours.named_parameters())

    def loss(weights):
        return torch.func.functional_call(ours, weights, (x.float().double(),))[0].pow(2).sum()

    found = torch.func.grad(loss)(weights)
    torch.testing.assert_close(list(found.values()), list(torch.autograd.grad(loss(weights), weights.values())))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        assert carousel.explain(ours, dual)[0].engine == "eager"
    ours._loops[0][1].register_forward_hook(lambda *_: None)
    assert "hook" in carousel.explain(ours, x)[0].reason


@needs_compiler
def test_a_compiled_graph_is_broken_for_them_and_whole_without():
    layer, _ = pair("lstm", **F64)
    x, state_ = torch.randn(6, 2, 3, **F64), state(layer, 2, **F64)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager")
    assert_same_with_gradients(compiled, layer, x, state_)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    layer.backend = "auto"
    torch._dynamo.reset()
    whole = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(whole(x, state_), layer(x, state_), rtol=1e-10, atol=1e-12)


@needs_compiler
@pytest.mark.short
@pytest.mark.parametrize("options", ["one", "stack", "projected"])
def test_short_sequences_are_torchs_and_long_ones_ours(options):
    ours, theirs = pair("lstm", **OPTIONS[options])
    ours.backend = "auto"
    short, long = torch.randn(1, 2, 3), torch.randn(90, 2, 3)
    engines = [{choice.engine for choice in carousel.explain(ours, x)} for x in (short, long)]
    assert engines == [{"eager" if options == "projected" else "torch"}, {"fused"}]
    packed = pack_padded_sequence(long[:2], [1, 1])
    assert {choice.engine for choice in carousel.explain(ours, packed)} == {"eager"}
    with warnings.catch_warnings(action="ignore"):  # oneDNN's, of projections
        for x in (short, long):
            assert_same_with_gradients(Seeded(ours), Seeded(theirs), x, tolerance=1e-5)
    if options == "one":
        assert "torch's own kernel is the faster one" in carousel.explain(ours, short)[0].reason
        ours.regularization = Regularization(input=0.1)
        assert carousel.explain(ours, short)[0].engine == "torch"
        ours.regularization = Regularization(zoneout=0.1)
        assert [carousel.explain(ours, x)[0].engine for x in (short, torch.randn(2, 2, 3))] == ["eager", "fused"]


@needs_compiler
@pytest.mark.short
def test_an_lstm_in_inference_is_longer_torchs_on_one_thread():
    layer, threads = carousel.LSTM(3, 5), torch.get_num_threads()
    try:
        for count, batch, engine in ((1, 3, "torch"), (1, 2, "fused"), (2, 3, "fused")):
            torch.set_num_threads(count)
            x = torch.randn(100, batch, 3)
            assert carousel.explain(layer, x)[0].engine == "fused"
            with torch.no_grad():
                assert carousel.explain(layer, x)[0].engine == engine
    finally:
        torch.set_num_threads(threads)


@needs_compiler
@pytest.mark.short
def test_a_cell_that_torch_does_not_have():
    own, loop = (carousel.Recurrent(carousel.cells.MGUCell, 3, 5, backend=backend) for backend in ("auto", "eager"))
    loop.load_state_dict(own.state_dict())
    for steps, engine in ((1, "eager"), (2, "fused"), (9, "fused")):
        x = torch.randn(steps, 2, 3)
        assert carousel.explain(own, x)[0].engine == engine
        assert_same_with_gradients(own, loop, x, tolerance=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    for name in LAYERS:
        ours, theirs = pair(name, num_layers=2, bidirectional=True, device="cuda")
        ours.backend = "auto"
        x = torch.randn(9, 4, 3, device="cuda")
        with warnings.catch_warnings(action="error"):  # cuDNN's, of weights that are scattered
            assert_same_with_gradients(ours, theirs, x, tolerance=1e-5)
            assert_same_with_gradients(copy.deepcopy(ours).cpu().cuda(), theirs, x, tolerance=1e-5)
        (choice, *_) = carousel.explain(ours, x)
        assert choice == ("torch", "torch's own kernel: the kernel is for the CPU, not for cuda")
        ours.eval()(x)[0].sum().backward()  # which torch's refuse
        assert tensors([p.grad for p in ours.parameters()])
