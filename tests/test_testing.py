"""`check_cell` passes our own cells, of each form of step, and says what is wrong with others."""

import pytest
import torch
from agreement import CATALOGUE, FORMS, needs_compiler
from foreign_cells import CELLS
from torch import nn

import carousel
from carousel import testing
from carousel.testing import check_cell


@needs_compiler
@pytest.mark.parametrize("name", FORMS)
def test_our_own(name):
    cell, options = CATALOGUE[name]
    assert check_cell(cell, **options).engine == "fused"


def test_what_is_in_the_kernels_way_is_told():
    kind, states = CELLS["liquid"]
    choice = check_cell(kind, 5, 4, states=states)
    assert choice.engine == "eager"
    assert "foreign_cells.py" in choice.reason


@needs_compiler
def test_a_module_as_it_is():
    module = nn.RNNCell(5, 6)
    before = module.weight_hh.detach().clone()
    assert check_cell(module).engine == "fused"
    assert torch.equal(module.weight_hh, before)


class Base(carousel.Cell):
    gates = ("a",)

    def update(self, wx, uh, state):
        return ((wx + self.of(uh)).tanh(),), {}

    def of(self, uh):
        return uh


class Remembers(Base):
    calls = 0

    def of(self, uh):
        type(self).calls += 1
        return uh + self.calls


class Unsaved(Base):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.scale = torch.rand(self.hidden_size, dtype=torch.float64)

    def of(self, uh):
        return uh * self.scale


class Mixing(Base):
    def of(self, uh):
        return uh.mean(0, keepdim=True).expand_as(uh)


class Idle(Base):
    def shapes(self):
        return super().shapes() | {"peephole": (3,)}


class Rounded(Base):
    def of(self, uh):
        return uh + (uh.round() - uh).detach()


class Narrow(Base):
    def of(self, uh):
        return uh + torch.ones(3)


WRONG = {
    Remembers: "two calls with the same input differ",
    Unsaved: "with its state_dict loaded, another layer gives something else",
    Mixing: "with lengths, a sequence is not what it is alone",
    Idle: "parameters that take no part: peephole_l0",
    Rounded: "its gradients are not those of finite differences",
    Narrow: r"RuntimeError: The size of tensor a \(4\) must match",
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said(kind):
    with pytest.raises(AssertionError, match=WRONG[kind]) as found:
        check_cell(kind)
    assert str(found.value).startswith(f"{kind.__name__} fails ")


def test_gradients_of_its_own_may_be_meant():
    check_cell(Rounded, smooth=False)


@needs_compiler
def test_where_the_kernel_is_not_the_loop(monkeypatch):
    by = testing._by

    def other(backend, layer):
        layer = by(backend, layer)
        layer.cell().weight_hh.data[0, 0] += 1e-6
        return layer

    monkeypatch.setattr(testing, "_by", other)
    with pytest.raises(AssertionError, match=r"^RNNCell fails 1 of 9 checks\nthe kernel .*: output 0: Greatest"):
        check_cell(carousel.RNNCell)
