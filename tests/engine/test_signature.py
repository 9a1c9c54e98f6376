"""What a kernel is called with is what its source reads."""

import ctypes

import pytest
import torch

from carousel.engine.fused.arguments import phased
from carousel.engine.fused.cpu.signature import Signature

FORWARD = Signature(phased(states=2, weights=0)["forward"])


def test_the_struct_and_the_structure_have_the_same_order():
    lines = [line.split("//")[0].strip(" ;") for line in FORWARD.source.splitlines()[1:-1]]
    declared = [line.split()[-1].lstrip("*") for line in lines]
    expanded = [
        f"{name.partition('[')[0]}{k}" for name in declared for k in range(int(name[:-1].partition("[")[2] or 1))
    ]
    assert [name for name, _ in FORWARD.structure._fields_] == expanded
    assert {"T0", "x0", "weights0", "state0", "state1", "last1"} < set(expanded)


def test_a_call_fills_in_numbers_addresses_and_nulls():
    x, state = torch.ones(3), [torch.ones(1), torch.empty(0)]
    filled = FORWARD.fill({"T": 7, "openmp": 1, "x": x, "state": state, "weights": []})
    assert (filled.T0, filled.x0, filled.state0) == (7, x.data_ptr(), state[0].data_ptr())
    assert filled.state1 is filled.out0 is filled.weights0 is filled.last1 is None
    assert filled.B0 == 0
    assert ctypes.sizeof(filled) == 8 * len(filled._fields_)


def test_an_array_of_another_length_is_refused():
    with pytest.raises(TypeError, match="the kernel takes 19 numbers and tensors, got 18"):
        FORWARD.fill({"state": [torch.ones(1)]})
