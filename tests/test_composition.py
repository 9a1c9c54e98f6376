"""Every cell composes with the rest of PyTorch."""

import copy
import io
import pickle
import shutil

import pytest
import torch
from agreement import CATALOGUE, FORMS, fill, tensors
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vmap

import carousel


@pytest.fixture(params=FORMS)
def layer(request):
    cell, options = CATALOGUE[request.param]
    return fill(carousel.Recurrent(cell, 2, 3, bidirectional=True, dtype=torch.float64, **options))


def sample(steps=3, batch=2, dtype=torch.float64):
    return torch.randn(steps, batch, 2, dtype=dtype)


def test_vmap_gives_per_sample_gradients(layer):
    x = sample(batch=4)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, sequence):
        return functional_call(layer, parameters, (sequence,))[0].pow(2).sum()

    together = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for k in range(4):
        alone = grad(loss)(parameters, x[:, k])
        for name in parameters:
            torch.testing.assert_close(together[name][k], alone[name])


def test_a_layer_of_which_a_transform_batches_nothing(layer):
    """With gradients on, and only what stands around it batched."""
    x, scales = torch.randn(6, 2, layer.input_size, dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = vmap(lambda scale: scale * layer(x)[0].sum())(scales)
    torch.testing.assert_close(found, scales * layer(x)[0].sum())
    weight = layer.weight_ih_l0
    expected = torch.autograd.grad(-layer(x)[0].sum(), weight)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), weight), expected)


def test_forward_and_reverse_mode_agree(layer):
    x, direction = sample(), sample()
    jacobian = jacrev(lambda x: layer(x)[0])(x)  # (T, B, 2H, T, B, I)
    _, tangent = jvp(lambda x: layer(x)[0], (x,), (direction,))
    torch.testing.assert_close(torch.einsum("tbhsci,sci->tbh", jacobian, direction), tangent)


def test_autocast_to_bfloat16_stays_near_float32(layer):
    layer = layer.float()
    x = sample(dtype=torch.float32)
    exact = layer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = layer(x)
    output.float().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)
    assert not torch.equal(output.float(), exact)  # it did run in bfloat16


@pytest.mark.parametrize("how", ["plain", "lengths", "reset"])
def test_compile_as_one_graph(layer, how):
    x = sample()
    options = {
        "lengths": {"lengths": torch.tensor([3, 1])},
        "reset": {"reset": torch.tensor([[False, False], [True, False], [False, True]])},
    }.get(how, {})
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected, got = [], []
    for module, results in ((layer, expected), (compiled, got)):
        layer.zero_grad()
        output, _ = module(x, **options)
        output.pow(2).sum().backward()
        results += [output, *(p.grad.clone() for p in layer.parameters())]
    torch.testing.assert_close(got, expected)


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a compiler")
def test_compile_with_inductor():
    layer = carousel.LSTM(2, 3, dtype=torch.float64)
    x = sample()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x)[0], layer(x)[0])


def test_export(layer):
    x = sample()
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(tensors(program.module()(x)), tensors(layer(x)))


def test_copies_pickles_and_state_dicts(layer):
    x = sample()
    expected = layer(x)[0]
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    blank = fill(copy.deepcopy(layer))
    assert not torch.equal(blank(x)[0], expected)
    blank.load_state_dict(torch.load(saved))
    for clone in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), blank):
        assert torch.equal(clone(x)[0], expected)


def test_evaluation_mode_has_the_same_backward(layer):
    x = sample()
    gradients = []
    for training in (True, False):
        layer.train(training)
        gradients.append(torch.autograd.grad(layer(x)[0].sum(), layer.parameters()))
    torch.testing.assert_close(*gradients)


def test_parametrizations(layer):
    name = "weight_ih_l0"
    x = sample()
    norm = nn.utils.parametrizations.weight_norm(layer, name)
    norm(x)[0].sum().backward()
    assert layer.parametrizations[name].original0.grad.abs().sum() > 0
    with torch.no_grad():
        layer.parametrizations[name].original0.zero_()
    plain = {n: p.detach() for n, p in layer.named_parameters() if "parametrizations" not in n}
    nn.utils.parametrize.remove_parametrizations(layer, name)
    assert layer.weight_ih_l0.abs().sum() == 0
    assert plain.keys() < dict(layer.named_parameters()).keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_as_on_the_cpu(layer):
    x = sample()
    expected = layer(x)[0]
    torch.testing.assert_close(layer.cuda()(x.cuda())[0].cpu(), expected)


@pytest.mark.parametrize("cell", ["lstm_projected", "gru", "indrnn", "lstm_layer_norm"])
def test_onnx_runs_elsewhere(tmp_path, cell):
    onnxruntime = pytest.importorskip("onnxruntime")
    kind, options = CATALOGUE[cell]
    layer = fill(carousel.Recurrent(kind, 2, 3, 2, bidirectional=True, **options)).eval()
    x = sample(steps=4, dtype=torch.float32)
    path = tmp_path / "layer.onnx"
    torch.onnx.export(layer, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for a, b in zip(got, tensors(layer(x)), strict=True):
        torch.testing.assert_close(torch.from_numpy(a), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_onnx_through_the_torch_module(tmp_path, cell):
    onnxruntime = pytest.importorskip("onnxruntime")
    layer = carousel.Recurrent(CATALOGUE[cell][0], 2, 3).eval()
    x = sample(steps=4, dtype=torch.float32)
    path = tmp_path / "twin.onnx"
    torch.onnx.export(layer.to_torch(), (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got[0]), layer(x)[0], rtol=1e-4, atol=1e-5)
