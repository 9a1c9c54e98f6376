"""Lengths and resets, where their numbers are not at hand."""

import pytest
import torch
from torch.func import grad, vmap

import carousel

WRONG = [[3, 0], [3, 6], [3, -1]]


@pytest.fixture(params=["lstm", "bidirectional gru"])
def layer(request):
    if request.param == "lstm":
        return carousel.LSTM(3, 4, dtype=torch.float64)
    return carousel.GRU(3, 4, 2, bidirectional=True, dtype=torch.float64)


def sample(*shape):
    return torch.randn(*shape, 3, dtype=torch.float64)


@pytest.mark.parametrize("dynamic", [False, True])
def test_wrong_lengths_are_refused_under_compile_as_without(layer, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    x = sample(5, 2)
    for right in ([3, 5], [1, 1]):
        torch.testing.assert_close(compiled(x, lengths=torch.tensor(right)), layer(x, lengths=right))
    for wrong in WRONG:
        for run in (layer, compiled):
            with pytest.raises(ValueError, match=rf"lengths should be from 1 to 5, got \[3, {wrong[1]}\]"):
                run(x, lengths=torch.tensor(wrong))
    x = sample(4, 2)
    torch.testing.assert_close(compiled(x, lengths=torch.tensor([4, 2])), layer(x, lengths=[4, 2]))
    with pytest.raises(ValueError, match="lengths should be from 1 to 4"):
        compiled(x, lengths=torch.tensor([5, 2]))


def test_wrong_lengths_are_refused_in_an_exported_program(layer):
    x = sample(5, 2)
    program = torch.export.export(layer, (x,), {"lengths": torch.tensor([3, 5])}).module()
    torch.testing.assert_close(program(x, lengths=torch.tensor([2, 5])), layer(x, lengths=[2, 5]))
    for wrong in WRONG:
        with pytest.raises(RuntimeError, match="lengths should be from 1 to T"):
            program(x, lengths=torch.tensor(wrong))


def test_lengths_under_vmap(layer):
    x, lengths = sample(3, 5, 2), torch.tensor([[5, 1], [2, 3], [4, 5]])

    def loss(x, lengths):
        return layer(x, lengths=lengths)[0].sin().sum()

    for run in (loss, grad(loss)):
        expected = torch.stack([run(a, b) for a, b in zip(x, lengths, strict=True)])
        torch.testing.assert_close(vmap(run)(x, lengths), expected)
        with pytest.raises(ValueError, match="lengths should be from 1 to 5"):
            vmap(run)(x, lengths - 1)
        torch.testing.assert_close(vmap(run, in_dims=(0, None))(x, lengths[0])[1], run(x[1], lengths[0]))


def test_lengths_and_resets_of_other_kinds():
    layer, x = carousel.GRU(3, 4, dtype=torch.float64), sample(5, 2)
    expected = layer(x, lengths=[2, 5])
    for dtype in (torch.int32, torch.uint8):
        torch.testing.assert_close(layer(x, lengths=torch.tensor([2, 5], dtype=dtype)), expected)
    torch.testing.assert_close(layer(x[:, 0], lengths=[2])[0], expected[0][:, 0])
    with pytest.raises(ValueError, match="reset should be a tensor, got list"):
        layer(x, reset=[[False, False]] * 5)
