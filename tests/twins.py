"""The pairs of ours and torch's, every cell there is, and how to compare two modules."""

import shutil
import warnings

import pytest
import torch
from torch import nn

import carousel
from carousel import cells
from carousel.cells import ABLATIONS, HighwayCell, IndRNNCell, JANETCell, LSTMVariantCell, MGUCell

LAYERS = {
    "rnn": (carousel.RNN, nn.RNN, {}),
    "rnn_relu": (carousel.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (carousel.LSTM, nn.LSTM, {}),
    "gru": (carousel.GRU, nn.GRU, {}),
}
CELLS = {
    "rnn": (carousel.RNNCell, nn.RNNCell, {}),
    "rnn_relu": (carousel.RNNCell, nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (carousel.LSTMCell, nn.LSTMCell, {}),
    "gru": (carousel.GRUCell, nn.GRUCell, {}),
}
CATALOGUE = {
    "rnn": (carousel.RNNCell, {}),
    "lstm": (carousel.LSTMCell, {}),
    "lstm_projected": (carousel.LSTMCell, {"proj_size": 2}),
    "gru": (carousel.GRUCell, {}),
    "mgu": (MGUCell, {}),
    "janet": (JANETCell, {}),
    "indrnn": (IndRNNCell, {}),
    "highway": (HighwayCell, {}),
    "lstm_layer_norm": (LSTMVariantCell, {"layer_norm": True, "peephole": True}),
    **{f"lstm_{name}": (LSTMVariantCell, options) for name, options in ABLATIONS.items()},
    "cho_gru": (cells.ChoGRUCell, {}),
    "min_gru": (cells.MinGRUCell, {}),
    "lem": (cells.LEMCell, {}),
    "cfc": (cells.CfCCell, {"timed": True}),
    "fast_grnn": (cells.FastGRNNCell, {"rank": 2}),
    "slstm": (cells.SLSTMCell, {}),
    "highway_deep": (cells.HighwayCell, {"depth": 2}),
}
"""Cells of every form of step, with the options that change their equations; the others of their kind stand in
test_modern."""

FORMS = ("rnn", "lstm", "lstm_projected", "gru", "indrnn", "lstm_layer_norm", "cho_gru", "min_gru", "slstm")
"""Of these one of each form, for what has to do with the form of a step and not with its equations."""

needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no compiler")


def tensors(nested) -> list[torch.Tensor]:
    return [nested] if isinstance(nested, torch.Tensor) else [t for part in nested for t in tensors(part)]


def fill(module: nn.Module) -> nn.Module:
    """Draw every parameter anew, those too that start at zero or one, so that all of them matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    return module


class Seeded(nn.Module):
    """A layer, called with these options and with the same noise each time."""

    def __init__(self, layer: nn.Module, **call) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x, hx):
        torch.manual_seed(2)
        return self.layer(x, hx, **self.call)


def run_with_gradients(module: nn.Module, *inputs) -> list[torch.Tensor]:
    """Outputs, and the gradients of inputs, states and parameters for a random loss on every output."""
    torch.manual_seed(1)
    given = [[t.detach().clone().requires_grad_() for t in tensors(x)] for x in inputs]
    packed = [tuple(g) if isinstance(x, tuple) else g[0] for g, x in zip(given, inputs, strict=True)]
    outputs = tensors(module(*packed))
    loss = sum((y * torch.randn_like(y)).sum() for y in outputs)
    wanted = [*tensors(given), *module.parameters()]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [*outputs, *gradients]


def assert_same_with_gradients(ours: nn.Module, theirs: nn.Module, *inputs, tolerance: float = 1e-10) -> None:
    mine, reference = run_with_gradients(ours, *inputs), run_with_gradients(theirs, *inputs)
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def complaint(work) -> tuple[type, str] | None:
    """The type and the text of the error that `work` raises, if it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            work()
        except Exception as error:
            return type(error), str(error)
    return None
