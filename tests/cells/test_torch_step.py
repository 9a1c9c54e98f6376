"""A cell that torch has takes its step by torch's operator: the same bits, and the same numbers as its own `step`."""

import pytest
import torch
from agreement import CELLS, assert_same_with_gradients, fill, run_with_gradients
from torch import nn

import carousel
from carousel.cells.torch_step import torch_step


def pair(name, **options):
    ours, theirs, more = CELLS[name]
    cell, module = ours(3, 5, **more, **options), theirs(3, 5, **more, **options)
    module.load_state_dict(cell.state_dict())
    return cell, module


def state(cell, *rows, **kind):
    drawn = tuple(torch.randn(*rows, 5, **kind) for _ in cell.states)
    return drawn if len(drawn) > 1 else drawn[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (1,), (4,)])
@pytest.mark.parametrize("name", CELLS)
def test_the_same_bits_as_torchs(name, rows, bias):
    cell, module = pair(name, bias=bias)
    x, hx = torch.randn(*rows, 3), state(cell, *rows)
    assert torch_step(cell, x, hx) is not None
    assert_same_with_gradients(cell, module, x, tolerance=0)
    assert_same_with_gradients(cell, module, x, hx, tolerance=0)


@pytest.mark.parametrize("name", CELLS)
def test_the_steps_numbers(name):
    cell, _ = pair(name, dtype=torch.float64)
    x, hx = torch.randn(4, 3, dtype=torch.float64), state(cell, 4, dtype=torch.float64)

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell

        def forward(self, x, hx):
            return cell.step(cell.input_map(x), hx if isinstance(hx, tuple) else (hx,))[0]

    assert_same_with_gradients(cell, Step(), x, hx)
    wanted = [x.requires_grad_(), *cell.parameters()]
    found = []
    for module in (cell, Step()):
        made = module(x, hx)
        h = made[0] if isinstance(made, tuple) else made
        first = torch.autograd.grad(h.pow(2).sum(), wanted, create_graph=True)
        found.append(torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_cells_that_are_not_as_torchs_take_their_own_step():
    class Louder(carousel.GRUCell):
        def update(self, wx, uh, state):
            (h,), gates = super().update(wx, uh, state)
            return (2 * h,), gates

    torch.manual_seed(0)
    louder, plain = Louder(3, 5), carousel.GRUCell(3, 5)
    louder.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3)
    torch.testing.assert_close(louder(x), 2 * plain(x))
    plain.update = louder.update
    torch.testing.assert_close(louder(x), plain(x))
    projected = carousel.LSTMCell(3, 5, proj_size=2)
    assert projected(x)[0].shape == (4, 2)
    one_bias = fill(carousel.LSTMCell(3, 5))
    one_bias.bias_hh = None
    expected = one_bias.step(one_bias.input_map(x), (torch.zeros(4, 5), torch.zeros(4, 5)))[0]
    torch.testing.assert_close(one_bias(x), expected)


@pytest.mark.parametrize("name", CELLS)
def test_transforms(name):
    cell, _ = pair(name, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64)

    def h(x):
        made = cell(x)
        return made[0] if isinstance(made, tuple) else made

    torch.testing.assert_close(torch.func.vmap(h)(x), h(x))
    torch.testing.assert_close(torch.func.jacfwd(h)(x), torch.autograd.functional.jacobian(h, x))
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run_with_gradients(compiled, x), run_with_gradients(cell, x))
