"""What torch tests its own modules with: the table of modules, inputs and errors that comes with it."""

import re
import warnings

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import carousel

pytest.importorskip("expecttest")
with warnings.catch_warnings(action="ignore"):
    from torch.testing._internal import common_modules

INFOS = {
    i.module_cls.__name__: i for i in common_modules.module_db if i.module_cls.__module__ == "torch.nn.modules.rnn"
}


def outputs_and_gradients(module, forward):
    outputs = [y for y in tree_leaves(module(*forward.args, **forward.kwargs)) if isinstance(y, Tensor)]
    inputs = [t for t in tree_leaves((forward.args, forward.kwargs)) if isinstance(t, Tensor) and t.requires_grad]
    loss = sum(y.sin().sum() for y in outputs if y.is_floating_point())
    return outputs, torch.autograd.grad(loss, [*inputs, *module.parameters()])


@pytest.mark.parametrize("name", INFOS)
def test_inputs(name):
    info = INFOS[name]
    for training in (True, False):
        for sample in info.module_inputs_func(info, "cpu", torch.float64, True, training):
            modules = []
            for kind in (getattr(carousel, name), info.module_cls):
                torch.manual_seed(0)
                given = sample.constructor_input
                modules.append(kind(*given.args, **given.kwargs, dtype=torch.float64).train(training))
            ours, theirs = modules
            assert repr(ours) == repr(theirs)
            results = [outputs_and_gradients(module, sample.forward_input) for module in modules]
            torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", INFOS)
def test_errors(name):
    info = INFOS[name]
    if info.module_error_inputs_func is None:
        pytest.skip("torch lists none")
    for sample in info.module_error_inputs_func(info, "cpu", torch.float32, False, True):
        given, forward = sample.module_error_input.constructor_input, sample.module_error_input.forward_input
        with pytest.raises(sample.error_type) as raised:
            getattr(carousel, name)(*given.args, **given.kwargs)(*forward.args, **forward.kwargs)
        assert re.search(sample.error_regex, str(raised.value))
