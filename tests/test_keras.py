"""Keras' layers and ours, with the same weights, give the same numbers, and train alike."""

import math
import os
from functools import partial

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import carousel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
KINDS = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}
KINDS["cho_gru"] = partial(layers.GRU, reset_after=False)
OURS = {"lstm": carousel.LSTM, "gru": carousel.GRU, "rnn": carousel.RNN}
OURS["cho_gru"] = partial(carousel.Recurrent, carousel.cells.ChoGRUCell)


def built(kind, units=4, features=3, both=False, **options):
    """A layer of Keras with random weights, biases included, that returns all outputs and the last state."""
    options = {"return_sequences": True, "return_state": True, "dtype": "float64"} | options
    layer = KINDS[kind](units, **options)
    layer = layers.Bidirectional(layer, dtype="float64") if both else layer
    layer.build((None, None, features))
    draw = np.random.default_rng(0)
    layer.set_weights([draw.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def assert_same(ours, theirs, features=3):
    x = torch.randn(2, 7, features, dtype=torch.float64)
    output, *state = theirs(x)
    y, last = ours(x)
    last = last if isinstance(last, tuple) else (last,)
    directions = [part[k] for k in range(len(last[0])) for part in last]
    # On torch, Keras' own products are of single precision.
    exact = 1e-12 if isinstance(ours, carousel.LSTM | carousel.GRU) else 2e-6
    for mine, its in zip([y, *directions], [output, *state], strict=True):
        torch.testing.assert_close(mine, its.double(), rtol=exact, atol=exact)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_states_and_the_way_back(kind, both, bias):
    theirs = built(kind, both=both, use_bias=bias)
    ours = carousel.from_keras(theirs)
    assert type(ours.cell()) is type(OURS[kind](3, 4).cell())
    assert_same(ours, theirs)
    back = carousel.to_keras(ours)
    assert all(np.array_equal(a, b) for a, b in zip(back, theirs.get_weights(), strict=True))
    assert all(isinstance(a, np.ndarray) for a in back)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_enough(kind, both):
    theirs = built(kind, both=both)
    weights = theirs.get_weights()
    pair = [weights[:3], weights[3:]] if both else weights
    for given in (weights, tuple(weights), pair, [torch.tensor(w) for w in weights]):
        assert_same(carousel.from_keras(given), theirs)
    copy = carousel.from_keras(weights)
    weights[0][:] = 0
    assert_same(copy, theirs)


def test_a_pair_of_layers():
    theirs = built("gru", both=True)
    assert_same(carousel.from_keras((theirs.forward_layer, theirs.backward_layer)), theirs)


@pytest.mark.parametrize(
    ("kind", "layer"), [(k, who) for k in KINDS for who in ("ours", "torchs") if (k, who) != ("cho_gru", "torchs")]
)
def test_a_layer_of_ours_or_of_torch_with_two_biases_in_keras(kind, layer):
    options = {"batch_first": True, "bidirectional": True, "dtype": torch.float64}
    ours = OURS[kind](3, 4, **options)
    theirs = built(kind, both=True)
    theirs.set_weights(carousel.to_keras(ours.to_torch() if layer == "torchs" else ours))
    assert_same(ours, theirs)


def test_several_layers_are_a_sequential_of_keras():
    ours = carousel.LSTM(3, [4, 5], 2, batch_first=True, dtype=torch.float64)
    each = [layers.LSTM(n, return_sequences=True, dtype="float64") for n in (4, 5)]
    theirs = keras.Sequential([keras.Input((7, 3), dtype="float64"), *each])
    theirs.set_weights(carousel.to_keras(ours))
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(theirs(x), ours(x)[0])


def test_relu_and_the_other_layout():
    theirs = built("rnn", activation="relu")
    assert_same(carousel.from_keras(theirs), theirs)
    assert_same(carousel.from_keras(theirs.get_weights(), nonlinearity="relu"), theirs)
    turned = carousel.from_keras(theirs, batch_first=False)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(
        turned(x.transpose(0, 1))[0].transpose(0, 1), theirs(x)[0].double(), rtol=2e-6, atol=2e-6
    )


def test_the_dtype_is_that_of_the_weights():
    assert carousel.from_keras(built("gru", dtype="float32")).weight_ih_l0.dtype is torch.float32


def test_what_is_frozen():
    theirs = built("lstm")
    frozen = [name for name, p in carousel.from_keras(theirs).named_parameters() if not p.requires_grad]
    assert frozen == ["bias_hh_l0"]
    assert all(p.requires_grad for p in carousel.from_keras(built("gru")).parameters())
    theirs.trainable = False
    assert not any(p.requires_grad for p in carousel.from_keras(theirs).parameters())


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("lstm", "activation", "relu"),
        ("rnn", "activation", "sigmoid"),
        ("lstm", "recurrent_activation", "hard_sigmoid"),
        ("gru", "recurrent_activation", "hard_sigmoid"),
        ("lstm", "go_backwards", True),
        ("lstm", "stateful", True),
        ("gru", "unroll", True),
        ("rnn", "dropout", 0.1),
        ("lstm", "recurrent_dropout", 0.1),
        ("lstm", "kernel_regularizer", "l2"),
        ("gru", "recurrent_constraint", "max_norm"),
    ],
)
def test_settings_that_ours_do_not_have_are_named(kind, option, value):
    layer = KINDS[kind](4, **{option: value})
    with pytest.raises(ValueError, match=f"^{KINDS[kind].__name__}: {option}=.* has no counterpart here; what has is "):
        carousel.from_keras(layer)
    if option != "go_backwards":
        with pytest.raises(ValueError, match=f"{option}=.* has no counterpart here"):
            carousel.from_keras(layers.Bidirectional(layer))


def test_what_is_no_such_layer_is_refused():
    class Mine(layers.LSTM):
        def call(self, *args, **kwargs):
            return 2 * super().call(*args, **kwargs)

    lstm, gru = built("lstm").get_weights(), built("gru").get_weights()
    for wrong, error, words in (
        (layers.Bidirectional(layers.LSTM(4), merge_mode="sum"), ValueError, "merge_mode='sum' has no counterpart"),
        (layers.LSTM(4), ValueError, "LSTM: it has no weights yet"),
        (layers.Dense(4), TypeError, "got Dense"),
        (layers.RNN(layers.LSTMCell(4)), TypeError, "got RNN"),
        (Mine(4), TypeError, "Mine has a call of its own"),
        ("lstm", TypeError, "got str"),
        ([], ValueError, "got 0"),
        (lstm + gru[:2], ValueError, "got 5"),
        (lstm + gru, ValueError, "the same layers, got LSTM and GRU"),
        ((built("lstm", 4), built("lstm", 4)), ValueError, "LSTM: go_backwards=False"),
        (lstm + built("lstm", 5).get_weights(), ValueError, "the same weights"),
        (gru[:2], ValueError, "do not tell reset_after"),
        ([w.T for w in lstm], ValueError, "expected the kernel, recurrent kernel and bias"),
        ([lstm[0]] * 3, ValueError, "expected the kernel"),
        ([lstm[2], lstm[2]], ValueError, "expected the kernel"),
    ):
        with pytest.raises(error, match=words):
            carousel.from_keras(wrong)


def test_what_keras_has_not_is_refused():
    for ours, words in (
        (carousel.LSTM(3, 4, peephole=True), "LSTMVariantCell"),
        (carousel.LSTM(3, 4, proj_size=2), "projection"),
        (carousel.GRU(3, 4, 2, residual=True), "residual connections"),
        (carousel.GRU(3, 4, regularization=carousel.Regularization(zoneout=0.1)), "such regularization"),
    ):
        with pytest.raises(ValueError, match=f"Keras has no {words}"):
            carousel.to_keras(ours)
    for ours in (nn.LSTMCell(3, 4), nn.Linear(3, 4)):
        with pytest.raises(TypeError, match="expected"):
            carousel.to_keras(ours)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_the_beginners_example_trains_alike(kind):
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x, y = draw.random((1000, 5, 10)), draw.random((1000, 1))
    recurrent, dense = KINDS[kind](50, dtype="float64"), layers.Dense(1, dtype="float64")
    model = keras.Sequential([keras.Input((5, 10), dtype="float64"), recurrent, dense])
    model.compile(optimizer="adam", loss="mean_squared_error")

    layer, head = carousel.from_keras(recurrent), nn.Linear(50, 1, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(dense.get_weights()[0]).T)
        head.bias.zero_()
    parameters = [p for p in (*layer.parameters(), *head.parameters()) if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=1e-3)
    ours, theirs = [], []
    for k in range(50):
        rows = slice(20 * k, 20 * (k + 1))
        # Keras adds its 1e-7 to the root before that is corrected for its beginning at 0, torch after.
        adam.param_groups[0]["eps"] = 1e-7 / math.sqrt(1 - 0.999 ** (k + 1))
        loss = nn.functional.mse_loss(head(layer(torch.tensor(x[rows]))[0][:, -1]), torch.tensor(y[rows]))
        adam.zero_grad()
        loss.backward()
        adam.step()
        ours.append(loss.item())
        theirs.append(float(model.train_on_batch(x[rows], y[rows])))
    assert ours[-1] < ours[0]
    assert ours == pytest.approx(theirs, rel=3e-6)
