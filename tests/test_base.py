"""A layer's tensors: torch's names for them, what hooks and ties make of them, and what moves them elsewhere."""

import copy

import pytest
import torch
from agreement import CATALOGUE, LAYERS, assert_same_with_gradients, run_with_gradients, tensors
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune, remove_weight_norm, spectral_norm, weight_norm

import carousel

HOOKS = {
    "weight_norm": lambda module: weight_norm(module, "weight_hh_l0"),
    "spectral_norm": lambda module: spectral_norm(module, "weight_hh_l0"),
    "prune": lambda module: prune.l1_unstructured(module, "weight_hh_l0", 0.3) and module,
}


def sample(*shape, features=3):
    return torch.randn(*shape, features, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
def test_the_names_that_code_for_rnns_goes_by(name, more):
    ours_type, theirs_type, options = LAYERS[name]
    ours, theirs = (kind(3, 4, **options, **more) for kind in (ours_type, theirs_type))
    assert isinstance(ours, nn.RNNBase)
    assert ours._all_weights == theirs._all_weights
    assert ours._flat_weights_names == theirs._flat_weights_names
    assert all(a is b for a, b in zip(ours._flat_weights, ours.parameters(), strict=True))
    x, order = torch.randn(5, 2, 3), torch.tensor([1, 0])
    state = theirs(x)[1]
    hx = state if name == "lstm" else (state,)
    assert ours.get_expected_hidden_size(x, None) == theirs.get_expected_hidden_size(x, None) == hx[0].shape
    ours.check_forward_args(x, state, None)
    torch.testing.assert_close(ours.permute_hidden(state, order), theirs.permute_hidden(state, order))
    wrong = tuple(s[:, :1] for s in state) if name == "lstm" else state[:, :1]
    for check in (lambda m: m.check_forward_args(x, wrong, None), lambda m: m.check_input(x[..., :2], None)):
        messages = []
        for module in (ours, theirs):
            with pytest.raises(RuntimeError) as raised:
                check(module)
            messages.append(str(raised.value))
        assert messages[0] == messages[1]


def test_a_forget_bias_set_by_the_names():
    layer = carousel.LSTM(3, 4, 2, bidirectional=True)
    for names in layer._all_weights:
        for name in filter(lambda n: "bias" in n, names):
            bias = getattr(layer, name)
            bias.data[bias.size(0) // 4 : bias.size(0) // 2].fill_(1.0)
    assert all((b[4:8] == 1).all() for n, b in layer.named_parameters() if "bias" in n)


def test_flat_weights_follow_what_replaces_them():
    layer = carousel.GRU(3, 4)
    with pytest.raises(TypeError):  # rather than that nothing happens
        layer._flat_weights[1] = nn.Parameter(torch.zeros(12, 4))
    layer.weight_hh_l0 = other = nn.Parameter(torch.zeros(12, 4))
    assert layer._flat_weights[1] is other
    seen = []
    layer.register_forward_pre_hook(lambda module, _: seen.append(module._flat_weights[1]))
    functional_call(layer, {"weight_hh_l0": torch.ones(12, 4)}, (torch.zeros(2, 1, 3),))
    assert (seen[0] == 1).all()
    assert (layer.double()._flat_weights[1].dtype, layer._flat_weights[1]) == (torch.float64, layer.weight_hh_l0)
    weight_norm(layer, "weight_hh_l0")
    assert [isinstance(w, nn.Parameter) for w in layer._flat_weights] == [True, False, True, True]
    remove_weight_norm(layer, "weight_hh_l0")
    assert all(isinstance(w, nn.Parameter) for w in layer._flat_weights)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    assert layer._flat_weights[1].grad_fn is not None


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("draw", [nn.init.orthogonal_, nn.init.xavier_uniform_, nn.init.kaiming_normal_])
def test_every_weight_can_be_drawn_by_torchs_initializers(name, draw):
    cell, options = CATALOGUE[name]
    for module in (cell(3, 4, **options), carousel.Recurrent(cell, 3, 4, 2, bidirectional=True, **options)):
        before = copy.deepcopy(module.state_dict())
        for key, parameter in module.named_parameters():
            if "weight" in key:
                draw(parameter)
        assert all(torch.equal(v, before[k]) != ("weight" in k) for k, v in module.state_dict().items())


@pytest.mark.parametrize(("name", "vectors"), [("indrnn", "weight_hh"), ("lstm_NIAF", "weight_c")])
def test_state_dicts_with_vectors_for_columns_load(name, vectors):
    cell, options = CATALOGUE[name]
    for make in (lambda: cell(3, 1, **options), lambda: carousel.Recurrent(cell, 3, 4, 2, **options)):
        module, other = make(), nn.ModuleDict({"inner": make()})
        old = {k: v.squeeze(-1) if vectors in k else v for k, v in module.state_dict().items()}
        assert any(v.dim() == 1 for k, v in old.items() if vectors in k)
        other.load_state_dict({f"inner.{k}": v for k, v in old.items()})
        for a, b in zip(module.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="size mismatch"):
        carousel.cells.IndRNNCell(3, 4).load_state_dict(carousel.cells.IndRNNCell(3, 5).state_dict())


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("training", [True, False])
def test_what_is_read_of_a_weight_that_a_hook_keeps_is_what_forward_would_read(kind, training):
    layer = HOOKS[kind](carousel.GRU(3, 4, dtype=torch.float64)).train(training)
    x = sample(5, 2)
    layer(x)
    for name, parameter in layer.named_parameters():
        if "weight_hh" in name:
            parameter.data.mul_(torch.rand_like(parameter))
    buffers = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    twin, cell, state = layer.to_torch(), layer.cell(), None
    for x_t in x:
        state = cell(x_t, state)
    for name, buffer in layer.named_buffers():
        assert torch.equal(buffer, buffers[name])
    output, last = layer(x)
    torch.testing.assert_close(twin(x)[0], output)
    torch.testing.assert_close(state, last[0])
    for name, parameter in layer.named_parameters():
        if "weight_hh" in name:
            parameter.data.mul_(2 * torch.rand_like(parameter))
    (seen,) = layer.inspect(x)
    layer.eval()  # or spectral_norm would take one step more
    torch.testing.assert_close(seen["h"], layer(x)[0])


def test_inspect_goes_through_the_modules_hooks():
    layer, x, seen = carousel.LSTM(3, 4, dtype=torch.float64), sample(5, 2), []
    (expected,) = layer.inspect(2 * x)
    layer.register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))
    layer.register_forward_hook(lambda _, args, output: seen.append(output))
    torch.testing.assert_close(layer.inspect(x)[0], expected)
    torch.testing.assert_close(seen[0], layer(x))


@pytest.mark.parametrize("kind", HOOKS)
def test_reset_parameters_reaches_a_weight_that_a_hook_keeps(kind):
    layer = HOOKS[kind](carousel.GRU(3, 4, dtype=torch.float64))
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer.reset_parameters()
    assert not any(torch.equal(p, before[name]) for name, p in layer.named_parameters())
    if kind == "weight_norm":
        v, g = layer.weight_hh_l0_v, layer.weight_hh_l0_g
        torch.testing.assert_close(g, v.norm(dim=1, keepdim=True))
        assert v.abs().max() <= 0.5


class Tied(carousel.Cell):
    """One matrix for the input and the state, one vector under two names."""

    gates = ("a",)

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.weight_hh = self.weight_ih
        self.q = self.p = nn.Parameter(torch.linspace(0.5, 1, self.hidden_size, dtype=self.weight_ih.dtype))

    def update(self, wx, uh, state):
        return ((wx + self.q * uh + self.p).tanh(),), {}


class Begins(carousel.LSTMCell):
    """With a state that is learnt, and that depends on the first input."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.first = nn.Linear(self.input_size, 2 * self.hidden_size, dtype=self.weight_ih.dtype)

    def initial_state(self, x):
        return self.first(x).chunk(2, -1)


@pytest.mark.parametrize(("cell", "distinct"), [(Tied, 4), (Begins, 6)])
@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_cells_with_ties_or_a_learnt_first_state(cell, distinct, backend):
    torch._dynamo.reset()
    layer = carousel.Recurrent(cell, 4, 4, 1, bidirectional=True, dtype=torch.float64, backend=backend)
    assert len(list(layer.parameters())) == 2 * distinct
    x = sample(5, 2, features=4)
    plain = copy.copy(layer)
    plain.backend = "eager"
    assert_same_with_gradients(layer, plain, x)
    output, last = layer(x)
    for reverse in (False, True):
        state, step = None, layer.cell(reverse=reverse)
        for x_t in x.flip(0) if reverse else x:
            state = step(x_t, state)
        torch.testing.assert_close(tensors(last)[0][int(reverse)], tensors(state)[0])
    torch.testing.assert_close(layer(x, lengths=[2, 5])[0][:2, 0], layer(x[:2, 0])[0])
    if cell is Begins:
        with pytest.raises(ValueError, match="reset begins anew with zeros, Begins with an initial_state"):
            layer(x, reset=torch.ones(5, 2, dtype=torch.bool))
    torch.testing.assert_close(torch.cat([seen["h"] for seen in layer.inspect(x)], -1), output)
    again = copy.deepcopy(layer)
    again.load_state_dict(layer.state_dict())
    assert len(list(again.parameters())) == 2 * distinct
    torch.testing.assert_close(run_with_gradients(again, x), run_with_gradients(layer, x))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run_with_gradients(compiled, x), run_with_gradients(layer, x))
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x)[0], output)
    assert len(carousel.gradients.flow(layer, lambda: layer(x)[0].sum())) == 2
    layer.reset_parameters()
    assert len(list(layer.parameters())) == 2 * distinct
    stack = carousel.Recurrent(cell, 4, 4, 2, dtype=torch.float64, backend=backend)
    torch.testing.assert_close(stack.inspect(x)[1]["h"], stack(x)[0])


def test_a_first_state_of_the_wrong_shape_is_refused():
    class Wrong(carousel.RNNCell):
        def initial_state(self, x):
            return (x.new_zeros(self.hidden_size),)

    with pytest.raises(RuntimeError, match=r"Wrong\.initial_state should give tensors of shapes \[\(2, 4\)\], got"):
        carousel.Recurrent(Wrong, 3, 4)(torch.zeros(5, 2, 3))


@pytest.mark.parametrize("name", LAYERS)
def test_on_meta(name):
    kind, _, options = LAYERS[name]
    layer = kind(3, 4, 2, bidirectional=True, device="meta", **options)
    x, expected = torch.zeros(5, 2, 3), kind(3, 4, 2, bidirectional=True, backend="eager", **options)
    for more in ({}, {"lengths": [2, 5]}, {"reset": torch.zeros(5, 2, dtype=torch.bool)}):
        on_meta = {key: value.to("meta") if isinstance(value, torch.Tensor) else value for key, value in more.items()}
        shapes = [y.shape for y in tensors(layer(x.to("meta"), **on_meta))]
        assert shapes == [y.shape for y in tensors(expected(x, **more))]
    empty = copy.deepcopy(layer).to_empty(device="cpu")
    empty.load_state_dict(expected.state_dict())
    layer.load_state_dict(expected.state_dict(), assign=True)
    for module in (empty, layer):
        torch.testing.assert_close(module(x), expected(x))


def test_conversions_that_swap_parameters():
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer, x = carousel.LSTM(3, 4, 2), torch.randn(5, 2, 3)
        expected = layer(x)[0].detach()  # a graph would hold the parameters
        torch.testing.assert_close(layer.double()(x.double())[0].float(), expected)
        layer.float().load_state_dict(carousel.LSTM(3, 4, 2).state_dict())
        assert not torch.equal(layer(x)[0], expected)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def test_a_leaf_of_torch_fx():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.read = carousel.LSTM(3, 4, 2), nn.Linear(4, 1)

        def forward(self, x, lengths):
            output, (h, _) = self.encode(x, lengths=lengths)
            return self.read(output) + h.sum()

    class Inside(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, nn.Linear)

    model, x = Model(), torch.randn(5, 2, 3)
    for graph in (torch.fx.symbolic_trace(model).graph, Inside().trace(model)):
        assert [node.target for node in graph.nodes if node.op == "call_module"] == ["encode", "read"]
        for lengths in (torch.tensor([2, 5]), torch.tensor([4, 1])):
            torch.testing.assert_close(torch.fx.GraphModule(model, graph)(x, lengths), model(x, lengths))


def test_a_buffer_that_is_not_saved_is_not_saved():
    class Buffered(carousel.RNNCell):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.register_buffer("kept", torch.ones(1))
            self.register_buffer("made", torch.ones(1), persistent=False)

    state = carousel.Recurrent(Buffered, 3, 4).state_dict()
    assert "kept_l0" in state
    assert "made_l0" not in state
