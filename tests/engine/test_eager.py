"""The loop runs cells that it has never seen."""

import torch

from carousel import Cell, Recurrent


class Counter(Cell):
    """n_t = n_{t-1} + 1, h_t = n_t: no parameter takes part."""

    gates = ("a",)
    states = ("h", "n")

    def update(self, wx, uh, state):
        _, n = state
        return (n + 1, n + 1), {"a": 0 * wx}


class LeakyIntegrator(Cell):
    """h_t = h_{t-1} / 2 + W x_t: a linear filter, whose answer is a sum."""

    gates = ("a",)

    def hidden_map(self, h):
        return h / 2

    def update(self, wx, uh, state):
        return (wx + uh,), {"a": wx}


def test_a_cell_with_two_states_of_its_own():
    layer = Recurrent(Counter, 1, 2)
    output, (h, n) = layer(torch.zeros(5, 3, 1))
    assert torch.equal(output[:, 0, 0], torch.arange(1.0, 6.0))
    assert torch.equal(n, torch.full((1, 3, 2), 5.0))
    assert torch.equal(h, n)


def test_a_linear_cell_is_the_convolution_that_it_should_be():
    layer = Recurrent(LeakyIntegrator, 3, 4, bias=False, dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    output, _ = layer(x)
    decay = 0.5 ** (torch.arange(7.0)[:, None] - torch.arange(7.0)).clamp(min=0) * torch.ones(7, 7).tril()
    expected = torch.einsum("ts,sbi,hi->tbh", decay.double(), x, layer.weight_ih_l0)
    torch.testing.assert_close(output, expected)


def test_the_record_holds_every_gate_and_state_of_every_step():
    layer = Recurrent(LeakyIntegrator, 3, 4)
    x = torch.randn(5, 2, 3)
    (record,) = layer.inspect(x)
    torch.testing.assert_close(record["a"], x @ layer.weight_ih_l0.T + layer.bias_ih_l0)
    torch.testing.assert_close(record["h"], layer(x)[0])
