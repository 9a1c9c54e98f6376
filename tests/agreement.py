"""The pairs of ours and torch's, and every cell there is."""

import contextlib
import shutil
import warnings

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel import cells
from carousel.cells import ABLATIONS, HighwayCell, IndRNNCell, JANETCell, LSTMVariantCell, MGUCell
from carousel.testing import Seeded, assert_same_with_gradients, run_with_gradients, tensors  # noqa: F401

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


CALLS = st.fixed_dictionaries(
    dict.fromkeys(("bidirectional", "zoneout", "lengths", "reset"), st.booleans()) | {"threads": st.integers(1, 3)}
)
"""What a call of a layer may ask for, drawn at random."""


def asked_for(call: dict, steps: int, batch: int) -> tuple[dict, dict]:
    """The layer's options and the call's, for a draw of `CALLS`."""
    noise = carousel.Regularization(zoneout=0.3 * call["zoneout"])
    given = {"lengths": torch.randint(1, steps + 1, (batch,)).tolist(), "reset": torch.rand(steps, batch) < 0.3}
    options = {"bidirectional": call["bidirectional"], "regularization": noise}
    return options, {name: value for name, value in given.items() if call[name]}


@contextlib.contextmanager
def on_threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fill(module: nn.Module) -> nn.Module:
    """Draw every parameter anew, those too that start at zero or one, so that all of them matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    return module


def complaint(work) -> tuple[type, str] | None:
    """The type and the text of the error that `work` raises, if it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            work()
        except Exception as error:
            return type(error), str(error)
    return None
