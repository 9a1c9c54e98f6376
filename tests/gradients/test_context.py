"""A measured layer's own context: what it was given in that one run counts, and the model is left as it was found."""

import copy
import inspect
import random

import numpy
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import carousel
from carousel import gradients

MEASURES = {
    "flow": lambda layer, run: [f.log10_norm for f in gradients.flow(layer, run)],
    "paths": lambda layer, run: [p.carousel.log10_norm for p in gradients.paths(layer, run)],
    "gates": lambda layer, run: [g.values for g in gradients.gates(layer, run)],
    "jacobian": lambda layer, run: [j.log10_singular[..., 0] for j in gradients.jacobian(layer, run, 3)],
    "largest": lambda layer, run: gradients.largest_singular_values(layer, run),
    "lyapunov": lambda layer, run: gradients.lyapunov(layer, run, 2),
}
KINDS = {"ours": carousel.LSTM, "torch's": nn.LSTM}
both = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def test_every_measure_is_among_these():
    functions = {name: getattr(gradients, name) for name in gradients.__all__}
    takes = {
        name
        for name, f in functions.items()
        if inspect.isfunction(f) and next(iter(inspect.signature(f).parameters)) == "layer"
    }
    assert takes - {"watch"} == MEASURES.keys() - {"largest"} | {"largest_singular_values"}


def make(kind, *sizes, **options):
    torch.manual_seed(0)
    return kind(*(sizes or (3, 4)), dtype=torch.float64, **options)


@pytest.fixture
def x():
    return torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


class Busy(nn.Module):
    """A model that draws random numbers of every kind, and counts."""

    def __init__(self, layer, fails=False):
        super().__init__()
        self.norm, self.layer, self.fails = nn.BatchNorm1d(3, dtype=torch.float64), layer, fails
        self.head = parametrizations.spectral_norm(nn.Linear(4, 2, dtype=torch.float64))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))
        self.layer.register_buffer("mine", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 1))
        self.layer.mine.add_(1.0)
        x = self.norm(x.flatten(0, 1)).view_as(x) * (1 + random.random() * numpy.random.rand())  # noqa: NPY002
        y = self.head(nn.functional.dropout(self.layer(x)[0]))
        if self.fails:
            raise KeyError("the model's own")
        return y.square().mean()


def everything(model):
    return {
        "state": {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()},
        "grads": [p.requires_grad for p in model.parameters()] + [p.grad for p in model.parameters()],
        "modes": [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(vars(m))) for m in model.modules()
        ],
        "random": (torch.get_rng_state(), random.getstate(), numpy.random.get_state()),  # noqa: NPY002
        "hooks": len(nn.modules.module._global_forward_hooks) + len(nn.modules.module._global_forward_pre_hooks),
    }


@every
@both
@pytest.mark.parametrize("frozen", ["nothing", "some", "all"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_left_as_it_was_found(measure, kind, frozen, fails, x):
    model = Busy(make(kind), fails)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen == "nothing" or (frozen == "some" and "hh" not in name))
    before = everything(model)
    if fails:
        with pytest.raises(KeyError, match="the model's own"):
            measure(model.layer, lambda: model(x))
    else:
        measure(model.layer, lambda: model(x))
    after = everything(model)
    torch.testing.assert_close(after.pop("state"), before.pop("state"), rtol=0, atol=0)
    random_after, random_before = after.pop("random"), before.pop("random")
    assert torch.equal(random_after[0], random_before[0])
    assert random_after[1] == random_before[1]
    assert random_after[2][1].tolist() == random_before[2][1].tolist()
    assert after == before


@every
@both
def test_freezing_changes_nothing(measure, kind, x):
    layer = make(kind, 3, 4, 2, bidirectional=True)

    def run():
        return layer(x)[0].square().sum()

    expected = measure(layer, run)
    for share in (0, 1, 2):
        for k, parameter in enumerate(layer.parameters()):
            parameter.requires_grad_(share > 0 and k % 3 != share)
        same(measure(layer, run), expected)


@every
@both
def test_the_input_is_that_after_pre_hooks_and_the_output_that_before_hooks(measure, kind, x):
    layer = make(kind)
    expected = measure(layer, lambda: 5 * layer(3 * x)[0][-1].sum())
    layer.register_forward_pre_hook(lambda _, args: (3 * args[0],))
    layer.register_forward_hook(lambda _, args, result: (5 * result[0], result[1]))
    same(measure(layer, lambda: layer(x)[0][-1].sum()), expected)


@every
@both
def test_parameters_of_a_functional_call_count(measure, kind, x):
    layer = make(kind)
    big = copy.deepcopy(layer)
    for parameter in big.parameters():
        parameter.data.mul_(3)
    expected = measure(big, lambda: big(x)[0][-1].sum())
    tensors = dict(big.named_parameters())
    same(measure(layer, lambda: torch.func.functional_call(layer, tensors, (x,))[0][-1].sum()), expected)
    model = nn.ModuleDict({"layer": layer})
    model.forward = lambda x: layer(x)[0][-1].sum()
    tensors = {f"layer.{name}": tensor.detach() for name, tensor in tensors.items()}
    same(measure(layer, lambda: torch.func.functional_call(model, tensors, (x,))), expected)


@every
@both
def test_what_changes_after_the_call_does_not_count(measure, kind, x):
    layer = make(kind)
    h, c = torch.rand(2, 1, 2, 4, dtype=torch.float64)
    expected = measure(layer, lambda: layer(x, (h, c))[0][-1].sum())
    weights = copy.deepcopy(layer.state_dict())

    def run():
        given, state = x.clone(), (h.clone(), c.clone())
        with torch.no_grad():
            output = layer(given, state)[0]
            given.zero_()
            state[0].fill_(9)
            state[1].fill_(9)
            for parameter in layer.parameters():  # a step
                parameter.add_(1.0)
        return output[-1].sum()

    def recorded():
        given, state = x.clone(), (h.clone(), c.clone())
        output = layer(given, state)[0]
        for t in (given, *state, *layer.parameters()):
            t.data.add_(1.0)
        return output[-1].sum()

    if measure not in (MEASURES["flow"], MEASURES["paths"]):
        same(measure(layer, run), expected)
        layer.load_state_dict(weights)
    same(measure(layer, recorded), expected)


WRAPS = {
    "weight_norm": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer, "weight_hh_l0"),
    "old weight_norm": lambda layer: nn.utils.weight_norm(layer, "weight_hh_l0"),
    "old spectral_norm": lambda layer: nn.utils.spectral_norm(layer, "weight_hh_l0"),
    "prune": lambda layer: prune.random_unstructured(layer, "weight_hh_l0", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@every
@both
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_the_weight_in_force_counts(measure, kind, wrap, x):
    """Such a weight is made anew in each call, and spectral_norm's differs from call to call."""
    layers = []
    for _ in range(2):
        layers.append(wrap(make(kind)))
        layers[-1](x)
        for name, parameter in layers[-1].named_parameters():
            parameter.data.mul_(1.7 if "weight_hh" in name else 1.0)
    layer, same_layer = layers
    seen = []
    same_layer.register_forward_hook(lambda layer, *_: seen.append(layer.weight_hh_l0.detach().clone()))
    with torch.nn.utils.parametrize.cached():
        same_layer(x)
    plain = make(kind)
    plain.weight_hh_l0.data.copy_(seen[0])
    expected = measure(plain, lambda: plain(x)[0][-1].sum())
    same(measure(layer, lambda: layer(x)[0][-1].sum()), expected)
    same(measure(layer, lambda: layer(x)[0][-1].sum()), expected)  # the first has left no trace


@every
@both
def test_a_model_may_change_the_output_in_place(measure, kind, x):
    layer = make(kind)
    expected = measure(layer, lambda: torch.relu(layer(x)[0]).sum())
    same(measure(layer, lambda: torch.relu_(layer(x)[0] + 0).sum()), expected)
    same(measure(layer, lambda: torch.relu_(layer(x)[0]).sum()), expected)


@both
def test_a_loss_may_differentiate_the_layer_itself(kind, x):
    layer, x = make(kind), x.requires_grad_()

    def loss():
        output = layer(x)[0][-1].sum()
        (gradient,) = torch.autograd.grad(output, x, create_graph=True)
        return output + 0 * gradient.sum()

    same(MEASURES["flow"](layer, loss), MEASURES["flow"](layer, lambda: layer(x)[0][-1].sum()))


@every
@both
def test_ambient_modes_change_nothing(measure, kind, x):
    layer = make(kind)

    def run():
        return layer(x)[0][-1].sum()

    expected = measure(layer, run)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            same(measure(layer, run), expected)


@every
@both
def test_autocast(measure, kind):
    torch.manual_seed(0)
    layer, encoder, x = kind(3, 4), nn.Linear(2, 3), torch.randn(6, 2, 2)

    def run(enabled=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            return layer(encoder(x))[0][-1].float().sum()

    torch.testing.assert_close(measure(layer, run), measure(layer, lambda: run(False)), rtol=0.05, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16):  # around it all
        found = measure(layer, lambda: layer(encoder(x))[0][-1].float().sum())
    torch.testing.assert_close(found, measure(layer, run), rtol=1e-5, atol=1e-5)


@every
@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_more(measure, kind, dtype):
    torch.manual_seed(0)
    layer = kind(3, 4, 2).to(dtype)
    single, x = copy.deepcopy(layer).float(), torch.randn(6, 2, 3).to(dtype)
    found = measure(layer, lambda: layer(x)[0][-1].sum())
    expected = measure(single, lambda: single(x.float())[0][-1].sum())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("error:.*torch.compile")
@every
@both
@pytest.mark.parametrize("ran", [False, True])
def test_what_was_compiled(measure, kind, ran, x):
    layer = make(kind)
    expected = measure(layer, lambda: layer(x)[0][-1].sum())
    model = torch.compile(lambda x: layer(x)[0][-1].sum(), backend="eager")
    compiled = torch.compile(layer, backend="eager")
    if ran:
        model(x), compiled(x)
    same(measure(layer, lambda: model(x)), expected)
    same(measure(compiled, lambda: compiled(x)[0][-1].sum()), expected)
    in_place = copy.deepcopy(layer)
    in_place.compile(backend="eager")
    same(measure(in_place, lambda: in_place(x)[0][-1].sum()), expected)


@every
@both
def test_a_checkpoint(measure, kind, x):
    layer, head = make(kind), nn.Linear(4, 1, dtype=torch.float64)
    expected = measure(layer, lambda: head(layer(x)[0]).tanh().sum())
    for frozen in (False, True):
        layer.requires_grad_(not frozen)
        for within in (lambda x: layer(x)[0], lambda x: head(layer(x)[0]).tanh()):
            found = measure(layer, lambda within=within: outside(checkpoint(within, x, use_reentrant=False), head))
            same(found, expected)


def outside(y, head):
    return (head(y).tanh() if y.size(-1) == 4 else y).sum()


@both
@pytest.mark.parametrize("measure", ["flow", "paths"])
def test_through_a_reentrant_checkpoint_there_is_no_gradient(measure, kind, x):
    layer, x = make(kind), x.requires_grad_()
    with pytest.raises(ValueError, match=r"layer ran without gradients: torch\.no_grad, or a reentrant checkpoint"):
        MEASURES[measure](layer, lambda: checkpoint(lambda x: layer(x)[0], x, use_reentrant=True)[-1].sum())
    with pytest.raises(ValueError, match="give it use_reentrant=False"):
        MEASURES[measure](layer, lambda: checkpoint(torch.tanh, layer(x)[0], use_reentrant=True)[-1].sum())


@both
def test_losses_that_cannot_be_followed_say_so(kind, x):
    layer = make(kind)

    def stepped():
        loss = layer(x)[0].sum().tanh()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="been through backward already"):
        gradients.flow(layer, stepped)
    with pytest.raises(ValueError, match=r"one number, got of shape \(6, 2, 4\)"):
        gradients.flow(layer, lambda: layer(x)[0])
    with pytest.raises(ValueError, match="one number, got float"):
        gradients.flow(layer, lambda: layer(x)[0].sum().item())
    with pytest.raises(ValueError, match=r"under a transform of torch\.func"):
        gradients.gates(layer, lambda: torch.func.grad(lambda x: layer(x)[0].sum())(x))
    with pytest.raises(TypeError, match="expected a recurrent layer, got str"):
        gradients.gates("layer", lambda: layer(x))


@every
@both
def test_noise_is_the_models_own(measure, kind, x):
    """Of a stack with dropout: the masks are those of the measured run, whatever the model draws before."""
    layer = make(kind, 3, 4, 2, dropout=0.5)

    def run():
        torch.manual_seed(3)
        torch.rand(5)
        return layer(x)[0][-1].sum()

    torch.manual_seed(3)
    torch.rand(5)
    same(measure(layer, lambda: layer(x)[0][-1].sum()), measure(layer, run))
