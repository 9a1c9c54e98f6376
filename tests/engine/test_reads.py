"""A kernel follows what its cell's code reads, or the cell runs eagerly, for a reason."""

import copy
import random

import pytest
import torch
from agreement import needs_compiler

import carousel

pytestmark = needs_compiler
LEAK, TENSOR, TABLE = 0.5, torch.tensor(0.5), {"leak": [0.5]}


class Config:
    leak = 0.5


def helper(a, leak=0.5):
    return a * leak * LEAK


class Base(carousel.Cell):
    gates, leak = ("a",), 0.5

    def update(self, wx, uh, state):
        return (self.factor() * (wx + uh).tanh(),), {}

    def factor(self):
        return self.leak


class Attribute(Base):
    leak = 0.5


class Instance(Base):
    def __init__(self, *args, **options):
        self.config = Config()
        super().__init__(*args, **options)

    def factor(self):
        return self.config.leak


class Global(Base):
    def factor(self):
        return LEAK


class Table(Base):
    def factor(self):
        return TABLE["leak"][0]


class GlobalTensor(Base):
    def factor(self):
        return TENSOR


class Default(Base):
    def factor(self, leak=0.5):
        return leak


class Helped(Base):
    def update(self, wx, uh, state):
        return (helper((wx + uh).tanh()),), {}


def closed(leak):
    class Closed(Base):
        def factor(self):
            return leak

    def change(value):
        nonlocal leak
        leak = value

    return Closed, change


def engines(layer, x):
    loop = copy.copy(layer)
    loop.backend = "eager"
    torch.testing.assert_close(layer(x)[0], loop(x)[0])
    return carousel.explain(layer, x)[0].engine


def set_default(value):
    Default.factor.__defaults__ = (value,)


def set_global(value):
    global LEAK
    LEAK = value


Closed, set_closed = closed(0.5)
leak = 0.5


class Homonym(Base):
    """An attribute and a global of one name."""

    leak = 1.0

    def factor(self):
        return self.leak * leak


def set_homonym(value):
    global leak
    leak = value


@pytest.mark.parametrize(
    ("cell", "change"),
    [
        (Attribute, lambda layer, value: setattr(Attribute, "leak", value)),
        (Attribute, lambda layer, value: setattr(layer._loops[0][1].cell, "leak", value)),
        (Instance, lambda layer, value: setattr(layer._loops[0][1].cell.config, "leak", value)),
        (Instance, lambda layer, value: setattr(Config, "leak", value)),
        (Global, lambda layer, value: set_global(value)),
        (Helped, lambda layer, value: set_global(value)),
        (Table, lambda layer, value: TABLE["leak"].__setitem__(0, value)),
        (GlobalTensor, lambda layer, value: TENSOR.fill_(value)),
        (Default, lambda layer, value: set_default(value)),
        (Homonym, lambda layer, value: set_homonym(value)),
        (Closed, lambda layer, value: set_closed(value)),
    ],
)
def test_what_changes_is_followed(cell, change):
    layer, x = carousel.Recurrent(cell, 3, 5), torch.randn(4, 2, 3)
    try:
        for value in (0.5, 0.25, 0.5):
            change(layer, value)
            assert engines(layer, x) == "fused"
    finally:
        change(layer, 0.5)


def test_what_never_stays_the_same_is_the_loops():
    layer, x = carousel.Recurrent(Attribute, 3, 5), torch.randn(4, 2, 3)
    try:
        for k in range(6):
            Attribute.leak = 0.5 + 0.01 * k
            engine = engines(layer, x)
    finally:
        Attribute.leak = 0.5
    assert engine == "eager"


class Counting(Base):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.calls = []


class InPlace(Counting):
    def factor(self):
        self.count += 1
        return 1.0


class Integer(Counting):
    def factor(self):
        self.steps += 1
        return 1.0


class Anew(Counting):
    def factor(self):
        self.count = self.count + 1
        return 1.0


class Listing(Counting):
    def factor(self):
        self.calls.append(1)
        return 1.0


class Random(Base):
    def factor(self):
        return random.random()


class Drawn(Base):
    def factor(self):
        return torch.rand(())


class BatchSize(Base):
    def update(self, wx, uh, state):
        return ((wx + uh).tanh() / wx.size(0),), {}


class Masked(Counting):
    def factor(self):
        return self.steps


class Truth(Base):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("on", torch.arange(self.hidden_size) % 2 == 0)

    def update(self, wx, uh, state):
        return (torch.where(self.on, wx, uh) * self.on,), {}


@pytest.mark.parametrize("cell", [InPlace, Integer, Anew, Listing, Random, Drawn, BatchSize, Masked, Truth])
def test_what_is_no_pure_function_is_the_loops(cell):
    layer, x = carousel.Recurrent(cell, 3, 5), torch.randn(4, 2, 3)
    (choice,) = carousel.explain(layer, x)
    assert choice.engine == "eager", choice
    assert cell.__name__ in choice.reason
    if cell not in (Random, Drawn):
        assert engines(layer, x) == "eager"


def test_a_gradient_of_a_tensor_that_is_no_parameter():
    scale = torch.ones(5, requires_grad=True)

    class Outside(Base):
        def factor(self):
            return scale

    layer = carousel.Recurrent(Outside, 3, 5)
    layer(torch.randn(4, 2, 3))[0].sum().backward()
    assert scale.grad is not None


def test_copies_share_what_was_made(monkeypatch):
    layer, x = carousel.GRU(3, 5), torch.randn(4, 2, 3)
    expected = layer(x)[0]
    monkeypatch.setattr("carousel.engine.fused.plans._make", None)
    assert torch.equal(copy.deepcopy(layer)(x)[0], expected)


class Named(torch.Tensor):
    pass


class Heard(torch.Tensor):
    """With functions of its own, which hand on the tag of their first argument."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        results = super().__torch_function__(func, types, args, kwargs or {})
        tag = next((vars(a).get("tag") for a in args if hasattr(a, "__dict__")), None)
        for result in results if isinstance(results, list | tuple) else [results]:
            if tag and isinstance(result, cls):
                result.tag = tag
        return results


class Deaf(torch.Tensor):
    """That knows torch's own functions alone."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ == "recurrence":
            return NotImplemented
        return super().__torch_function__(func, types, args, kwargs or {})


def test_subclasses_of_tensor_are_handed_the_whole_run():
    layer, x = carousel.LSTM(3, 5), torch.randn(4, 2, 3)
    expected, (h, _) = layer(x)
    right = torch.autograd.grad(expected.square().sum(), layer.weight_hh_l0)
    for kind, engine in ((Named, "fused"), (Heard, "fused"), (Deaf, "eager")):
        (choice,) = carousel.explain(layer, x.as_subclass(kind))
        assert choice.engine == engine
        y, (last, _) = layer(x.as_subclass(kind))
        assert type(y) is type(last) is type(torch.nn.LSTM(3, 5)(x.as_subclass(kind))[0])
        torch.testing.assert_close((y.as_subclass(torch.Tensor), last.as_subclass(torch.Tensor)), (expected, h))
        found = torch.autograd.grad(y.square().sum(), layer.weight_hh_l0)
        torch.testing.assert_close(found[0].as_subclass(torch.Tensor), right[0])
    assert "Deaf" in choice.reason
    heard = x.as_subclass(Heard)
    heard.tag = "speech"
    assert layer(heard)[0].tag == "speech"
    y = layer(x, tuple(s.as_subclass(Heard) for s in torch.zeros(2, 1, 2, 5)))[0]  # the state alone
    assert type(y) is Heard


LOG, COUNTS = [], {"calls": 0}


class Logged(Base):
    def factor(self):
        LOG.append(len(LOG))
        return 0.5


class Noted(Instance):
    def factor(self):
        self.config.calls = getattr(self.config, "calls", 0) + 1
        return 0.5


class Tallied(Base):
    def factor(self):
        COUNTS["calls"] += 1
        return 0.5


class Replaced(Base):
    def factor(self):
        global LOG
        LOG = [*LOG, 0]
        return 0.5


@pytest.mark.parametrize(("cell", "name"), [(Logged, "LOG"), (Tallied, "COUNTS"), (Replaced, "LOG"), (Noted, "config")])
def test_what_a_step_changes_is_named_with_its_line(cell, name):
    (choice,) = carousel.explain(carousel.Recurrent(cell, 2, 3), torch.randn(30, 2, 2))
    line = cell.factor.__code__.co_firstlineno + 1 + (cell is Replaced)
    where = "" if cell is Noted else f" (test_reads.py:{line})"  # of which an attribute of another object is set
    assert choice == ("eager", f"{cell.__name__}: its update changes {name}{where}")
