"""Every measure on a user's own module, with a recurrent layer somewhere inside it."""

import pytest
import torch
from torch import nn

import carousel
from carousel import gradients


class Tagger(nn.Module):
    """A model that knows nothing of us but the layer in the middle of it: an embedding, two branches, a readout."""

    def __init__(self, recurrent):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.encoder = nn.ModuleDict({"norm": nn.LayerNorm(6), "memory": recurrent})
        self.readout = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, tokens):  # (T, B)
        x = self.encoder["norm"](self.embed(tokens))
        output, _ = self.encoder["memory"](x)
        return self.readout(output[-1]) + self.readout(output.mean(0))  # (B, 3)


@pytest.fixture
def tokens():
    return torch.randint(11, (20, 5), generator=torch.Generator().manual_seed(0))


def build(layer_type):
    torch.manual_seed(1)
    return Tagger(layer_type(6, 8)).double()


@pytest.mark.parametrize("theirs", [nn.LSTM, nn.GRU, nn.RNN])
def test_all_measures_are_the_same_for_torchs_module_and_for_ours(theirs, tokens):
    """And neither the model's weights nor the stream of random numbers is touched."""
    found = []
    for layer_type in (theirs, getattr(carousel, theirs.__name__)):
        model = build(layer_type)
        layer, before = model.encoder["memory"], [p.clone() for p in model.parameters()]
        stream = torch.get_rng_state()

        def loss(model=model):
            return nn.functional.cross_entropy(model(tokens), torch.arange(5) % 3)

        def run(model=model):
            return model(tokens)

        (flow,), (split,), (seen,) = (
            gradients.flow(layer, loss),
            gradients.paths(layer, loss),
            gradients.gates(layer, run),
        )
        (singular,) = gradients.jacobian(layer, run, window=4)
        found.append(
            {
                "flow": flow.log10_norm,
                "carousel": split.carousel.log10_norm,
                "gates": seen.values,
                "jacobian": singular.log10_singular[..., 0],
                "largest": gradients.largest_singular_values(layer, run, window=4),
                "lyapunov": gradients.lyapunov(layer, run, exponents=2),
            }
        )
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert all(p.grad is None for p in model.parameters())
        assert torch.equal(stream, torch.get_rng_state())
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-7, equal_nan=True)


def test_the_flow_is_that_of_the_whole_models_loss(tokens):
    model = build(carousel.LSTM)
    layer = model.encoder["memory"]
    (measured,) = gradients.flow(layer, lambda: model(tokens).square().sum())
    cell, states = layer.cell(), []
    x = model.encoder["norm"](model.embed(tokens))
    state = cell.initial_state(x[0])
    for x_t in x:
        state = cell(x_t, state)
        states.append(state)
    output = torch.stack([h for h, _ in states])
    loss = (model.readout(output[-1]) + model.readout(output.mean(0))).square().sum()
    for k, name in enumerate(("h", "c")):
        found = torch.autograd.grad(loss, [s[k] for s in states], retain_graph=True)
        norms = torch.stack([gradient.norm(dim=-1).log10() for gradient in found])
        torch.testing.assert_close(measured.log10_norm[name], norms.flip(0))


def test_what_is_no_recurrent_layer_is_refused(tokens):
    model = build(carousel.LSTM)
    with pytest.raises(TypeError, match=r"expected torch\.nn\.LSTM, GRU or RNN, or one of their cells, got Linear"):
        gradients.gates(model.readout[0], lambda: model.readout[0](torch.zeros(2, 8).double()))
    with pytest.raises(TypeError, match="expected a layer over time, got one step of it, LSTMCell"):
        gradients.flow(nn.LSTMCell(2, 3), lambda: model(tokens).sum())
