"""What a cell of one's own may get wrong, and what it is told."""

import inspect

import pytest
import torch

import carousel
from carousel import initialization
from carousel.cells import ABLATIONS, JANETCell, LSTMVariantCell, MGUCell


def cell(update=lambda self, wx, uh, state: (state, {}), **attributes) -> type[carousel.Cell]:
    return type("Mine", (carousel.Cell,), {"gates": ("f", "g"), "update": update} | attributes)


UPDATES = {
    r"a tensor of shape \(2, 4\)": lambda self, wx, uh, state: state[0],
    r"\(a tensor of shape \(2, 4\)\)": lambda self, wx, uh, state: state,
    r"\(a tensor of shape \(2, 4\), {}\)": lambda self, wx, uh, state: (state[0], {}),
    r"\(\(a tensor of shape \(2, 8\)\), {}\)": lambda self, wx, uh, state: (((wx + uh).tanh(),), {}),
    r"\(\(a tensor of shape \(2, 1\)\), {}\)": lambda self, wx, uh, state: ((state[0][..., :1],), {}),
    r"\(\(a tensor of shape \(2, 4\), a tensor of shape \(2, 4\)\), {}\)": lambda self, wx, uh, state: (state * 2, {}),
    r"\(\(0.5\), {}\)": lambda self, wx, uh, state: ((0.5,), {}),
    r"\(\(a tensor of shape \(2, 4\)\), \(a tensor of shape \(2, 4\)\)\)": lambda self, wx, uh, state: (
        state,
        [state[0]],
    ),
    "None": lambda self, wx, uh, state: None,
}


@pytest.mark.parametrize("got", UPDATES)
def test_an_update_that_returns_something_else(got):
    kind, x = cell(UPDATES[got]), torch.randn(2, 3)
    said = rf"Mine\.update should return \(\(h,\), gates\): a tuple of .* it returned {got}$"
    for run in (
        lambda: kind(3, 4)(x),
        lambda: carousel.Recurrent(kind, 3, 4)(x[None]),
        lambda: carousel.Recurrent(kind, 3, 4, backend="eager")(x[None]),
    ):
        with pytest.raises(TypeError, match=said):
            run()
    with pytest.raises(RuntimeError, match=said):
        carousel.Recurrent(kind, 3, 4, backend="fused")(x[None])


def test_an_update_whose_h_is_projected():
    kind = cell(lambda self, wx, uh, state: (((wx + uh)[..., : self.hidden_size],), {}), projectable=True)
    assert carousel.Recurrent(kind, 3, 4, proj_size=2)(torch.randn(5, 2, 3))[0].shape == (5, 2, 2)
    kind = cell(lambda self, wx, uh, state: (state, {}), projectable=True)
    with pytest.raises(TypeError, match=r"each \(\.\.\., 4\) .* it returned \(\(a tensor of shape \(2, 2\)\), {}\)"):
        carousel.Recurrent(kind, 3, 4, proj_size=2)(torch.randn(5, 2, 3))


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (cell(gates="forget"), TypeError, r"Mine\.gates should be a tuple of names, got 'forget'"),
        (cell(states="hc"), TypeError, r"Mine\.states should be a tuple of names, got 'hc'"),
        (cell(keep_gate="q"), ValueError, r"Mine\.keep_gate should be one of the gates f, g, got 'q'"),
        (cell(write_gate="1 - q"), ValueError, r"Mine\.write_gate should be one of the gates f, g, got '1 - q'"),
        (type("Bare", (carousel.Cell,), {}), TypeError, "Bare should name its gates"),
    ],
)
def test_a_class_that_lacks_something(kind, error, message):
    for make in (kind, lambda *sizes: carousel.Recurrent(kind, *sizes)):
        with pytest.raises(error, match=message):
            make(3, 4)
    assert cell(keep_gate="1 - f")(3, 4).keep_gate == "1 - f"


def test_a_cell_without_an_update():
    with pytest.raises(NotImplementedError, match="Idle has no update"):
        carousel.Recurrent(type("Idle", (carousel.Cell,), {"gates": ("a",)}), 3, 4)(torch.zeros(5, 2, 3))


def test_options_that_there_are_not():
    for make, message in (
        (
            lambda: carousel.LSTM(3, 4, peephol=True),
            r"LSTM has no option peephol; it takes input_size, .*, peephole, .*",
        ),
        (
            lambda: carousel.GRU(3, 4, peephole=True),
            r"GRU has no option peephole; it takes (?!.*proj_size)input_size, .*",
        ),
        (lambda: carousel.Recurrent(JANETCell, 3, 4, bet=1), r"Recurrent has no option bet; it takes .*, beta"),
        (lambda: carousel.LSTMCell(3, 4, peephole=True), r"LSTMCell has no option peephole; it takes input_size, .*"),
        (lambda: JANETCell(3, 4, bet=1), r"JANETCell has no option bet; it takes .*, beta"),
        (lambda: carousel.LSTM(3, 4, regularization={"zoneout": 0.1}), r"regularization should be a carousel\.Regul"),
        (lambda: carousel.LSTM(3, 4, detach=1), r"detach should be a carousel\.Detach, got 1"),
    ):
        with pytest.raises(TypeError, match=message):
            make()
    with pytest.raises(ValueError, match="only supported for LSTM and cells that are projectable, MGUCell is not"):
        MGUCell(3, 4, proj_size=2)
    with pytest.raises(ValueError, match=r"without must name parts among input_gate, .*got input"):
        carousel.LSTM(3, 4, without="input")
    assert carousel.LSTM(3, 4, without="input_gate").cell().without == ("input_gate",)


def test_signatures_name_every_option():
    for kind in (carousel.LSTM, carousel.GRU, carousel.RNN):
        names = list(inspect.signature(kind).parameters)
        assert names[-1] == "unknown"
        assert {"num_layers", "bidirectional", "dtype", "residual", "regularization", "detach", "init"} < set(names)
    options = set(inspect.signature(LSTMVariantCell).parameters) - {"arguments", "options"}
    assert options < set(inspect.signature(carousel.LSTM).parameters)


def test_repr_shows_every_option():
    init = (initialization.Orthogonal(), initialization.ForgetBias(2.0))
    for module, shown in (
        (carousel.LSTM(3, 4, peephole=True), "LSTM(3, 4, peephole=True)"),
        (carousel.LSTM(3, 4, **ABLATIONS["NIG"]), "LSTM(3, 4, peephole=True, without=('input_gate',))"),
        (carousel.GRU(3, 4, init=init), "GRU(3, 4, init=(Orthogonal(gain=1.0), ForgetBias(value=2.0)))"),
        (carousel.Recurrent(JANETCell, 3, 4, beta=2.0), "Recurrent(JANETCell, 3, 4, beta=2.0)"),
        (carousel.Recurrent(carousel.LSTMCell, 3, 4, proj_size=2), "Recurrent(LSTMCell, 3, 4, proj_size=2)"),
        (carousel.LSTMCell(3, 4, bias=False, proj_size=2), "LSTMCell(3, 4, bias=False, proj_size=2)"),
        (LSTMVariantCell(3, 4, coupled=True), "LSTMVariantCell(3, 4, coupled=True)"),
    ):
        assert repr(module) == shown
