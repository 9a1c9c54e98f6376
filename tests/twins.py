"""The pairs of ours and torch's, and how to compare them."""

import torch
from torch import nn

import carousel

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


def tensors(nested) -> list[torch.Tensor]:
    return [nested] if isinstance(nested, torch.Tensor) else [t for part in nested for t in tensors(part)]


def assert_same_with_gradients(ours: nn.Module, theirs: nn.Module, *inputs, tolerance: float = 1e-10) -> None:
    """The same outputs and the same gradients, of inputs, states and parameters, for a random loss on every output."""
    results = []
    for module in (ours, theirs):
        torch.manual_seed(1)
        given = [[t.detach().clone().requires_grad_() for t in tensors(x)] for x in inputs]
        packed = [tuple(g) if isinstance(x, tuple) else g[0] for g, x in zip(given, inputs, strict=True)]
        outputs = tensors(module(*packed))
        loss = sum((y * torch.randn_like(y)).sum() for y in outputs)
        gradients = torch.autograd.grad(loss, [*tensors(given), *module.parameters()])
        results.append([*outputs, *gradients])
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=tolerance, atol=tolerance)
