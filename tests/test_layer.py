"""The layer against its twin in torch.nn."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from agreement import CATALOGUE, LAYERS, assert_same_with_gradients, complaint, run_with_gradients, tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import carousel
from carousel import Regularization
from carousel.cells import LSTMVariantCell


def make_twins(name, inputs=3, hidden=4, dtype=torch.float64, **more):
    ours_type, theirs_type, options = LAYERS[name]
    ours = ours_type(inputs, hidden, dtype=dtype, **options, **more)
    theirs = theirs_type(inputs, hidden, dtype=dtype, **options, **more)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@st.composite
def settings_of_a_layer(draw, name):
    hidden = draw(st.integers(2, 6))
    options = {
        "inputs": draw(st.integers(1, 6)),
        "hidden": hidden,
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if name == "lstm":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    return options


def states_for(layer, batch, batched=True):
    loops = len(layer._loops)
    shape = (loops, batch) if batched else (loops,)
    states = tuple(torch.randn(*shape, size, dtype=torch.float64) for size in layer.cell().state_sizes)
    return states if len(states) > 1 else states[0]


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), steps=st.integers(1, 9), batch=st.integers(0, 5), seed=st.integers(0, 2**16))
def test_outputs_states_and_all_gradients_equal_torchs(name, data, steps, batch, seed):
    torch.manual_seed(seed)
    ours, theirs = make_twins(name, **data.draw(settings_of_a_layer(name)))
    batched = data.draw(st.booleans())
    shape = (batch, steps, ours.input_size) if ours.batch_first else (steps, batch, ours.input_size)
    x = torch.randn(shape if batched else (steps, ours.input_size), dtype=torch.float64)
    if data.draw(st.booleans()):  # not contiguous
        x = x.flip(-1).transpose(-1, -2).contiguous().transpose(-1, -2)
    state = (states_for(ours, batch, batched),) if data.draw(st.booleans()) else ()
    assert_same_with_gradients(ours, theirs, x, *state)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), steps=st.integers(1, 40), batch=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_float32_is_within_4_times_torchs_own_error(name, data, steps, batch, seed):
    """Against torch in float64; 2e-6 stands for what luck may make of a single rounding."""
    torch.manual_seed(seed)
    ours, theirs = make_twins(name, dtype=torch.float32, **data.draw(settings_of_a_layer(name)))
    shape = (batch, steps, ours.input_size) if ours.batch_first else (steps, batch, ours.input_size)
    x = torch.randn(shape)
    exact = run_with_gradients(copy.deepcopy(theirs).double(), x.double())
    for a, b, true in zip(run_with_gradients(ours, x), run_with_gradients(theirs, x), exact, strict=True):
        scale = 1 + true.abs().max()
        assert (a - true).abs().max() <= 4 * (b - true).abs().max() + 2e-6 * scale


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16), ordered=st.booleans(), as_lengths=st.booleans())
def test_packed_sequences_equal_torchs(name, data, seed, ordered, as_lengths):
    torch.manual_seed(seed)
    ours, theirs = make_twins(name, **data.draw(settings_of_a_layer(name)))
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    lengths = sorted(lengths, reverse=True) if ordered else lengths
    first = ours.batch_first
    x = torch.randn(len(lengths), max(lengths), ours.input_size, dtype=torch.float64)
    x = x if first else x.transpose(0, 1)
    state = states_for(ours, len(lengths))

    def loss_of(module, use_lengths):
        value = x.detach().clone().requires_grad_()
        if use_lengths:
            output, last = module(value, state, lengths=lengths)
            output = pack_padded_sequence(output, lengths, batch_first=first, enforce_sorted=ordered)
        else:
            packed = pack_padded_sequence(value, lengths, batch_first=first, enforce_sorted=ordered)
            output, last = module(packed, state)
        assert isinstance(output, PackedSequence)
        torch.manual_seed(2)
        loss = sum((y * torch.randn_like(y)).sum() for y in [output.data, *tensors(last)])
        return output, last, torch.autograd.grad(loss, [value, *module.parameters()])

    mine, reference = loss_of(ours, as_lengths), loss_of(theirs, False)
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        a, b = getattr(mine[0], field), getattr(reference[0], field)
        assert (a is None and b is None) or torch.equal(a, b)
    for a, b in zip(tensors([mine[0].data, *mine[1:]]), tensors([reference[0].data, *reference[1:]]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_resets_and_lengths_together():
    layer = carousel.GRU(3, 4, bidirectional=True, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    reset = torch.zeros(8, 2, dtype=torch.bool)
    reset[2, 0] = reset[6, 0] = reset[3, 1] = True  # one of them beyond the end of the first
    output, (forward, backward) = layer(x, lengths=[5, 8], reset=reset)
    parts = [layer(x[:2, 0])[0], layer(x[2:5, 0])]
    torch.testing.assert_close(output[:5, 0], torch.cat([parts[0], parts[1][0]]))
    torch.testing.assert_close(forward[0], parts[1][1][0])
    torch.testing.assert_close(backward[0], layer(x[:2, 0])[1][1])


@pytest.mark.parametrize("name", LAYERS)
def test_names_order_repr_and_seeded_weights_are_torchs(name):
    ours_type, theirs_type, options = LAYERS[name]
    options = {**options, "num_layers": 2, "bidirectional": True, "dropout": 0.5, "batch_first": True, "bias": False}
    options |= {"proj_size": 2} if name == "lstm" else {}
    for kwargs in (LAYERS[name][2], options):
        torch.manual_seed(5)
        ours = ours_type(3, 4, **kwargs)
        torch.manual_seed(5)
        theirs = theirs_type(3, 4, **kwargs)
        assert repr(ours) == repr(theirs)
        assert ours.mode == theirs.mode
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for (n, a), (m, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert n == m
            assert torch.equal(a, b)
        assert [[w.shape for w in ws] for ws in ours.all_weights] == [
            [w.shape for w in ws] for ws in theirs.all_weights
        ]
        other = theirs_type(3, 4, **kwargs)
        other.load_state_dict(ours.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True))
        ours.flatten_parameters()
        before = ours.weight_hh_l0.detach().clone()
        ours.reset_parameters()
        assert not torch.equal(ours.weight_hh_l0, before)


def test_positional_arguments_are_torchs():
    assert repr(carousel.LSTM(3, 4, 2, False, True, 0.1, True, 2)) == repr(nn.LSTM(3, 4, 2, False, True, 0.1, True, 2))
    assert repr(carousel.GRU(3, 4, 2, False, True, 0.1, True)) == repr(nn.GRU(3, 4, 2, False, True, 0.1, True))
    ours, theirs = (m.RNN(3, 4, 2, "relu", False, True, 0.1, True) for m in (carousel, nn))
    assert repr(ours) == repr(theirs)
    assert ours.nonlinearity == theirs.nonlinearity


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": 0},
        {"hidden_size": 2.0},
        {"input_size": -1},
        {"input_size": "3"},
        {"num_layers": 0},
        {"dropout": 1.5},
        {"dropout": -0.1},
        {"dropout": "x"},
        {"dropout": True},
        {"bias": 1},
        {"batch_first": None},
        {"proj_size": 4},
        {"proj_size": 9},
        {"proj_size": -1},
    ],
)
def test_the_same_mistakes_in_the_constructor_get_the_same_errors(name, wrong):
    ours_type, theirs_type, options = LAYERS[name]
    arguments = {"input_size": 3, "hidden_size": 4, **options, **wrong}
    expected = complaint(lambda: theirs_type(**arguments))
    assert expected is not None
    assert complaint(lambda: ours_type(**arguments)) == expected


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_same_mistakes_in_a_call_get_the_same_errors(name, batch_first):
    ours, theirs = make_twins(name, num_layers=2, bidirectional=True, batch_first=batch_first, dtype=torch.float32)
    states = 1 if isinstance(theirs(torch.zeros(5, 2, 3))[1], torch.Tensor) else 2

    def hx(*shape):
        return torch.zeros(shape) if states == 1 else (torch.zeros(shape),) * states

    x = torch.zeros(5, 5, 3)
    calls = [
        (torch.zeros(3),),
        (torch.zeros(1, 5, 2, 3),),
        (torch.zeros(5, 5, 2),),
        (torch.zeros(5, 2),),
        (torch.zeros(0, 5, 3) if not batch_first else torch.zeros(5, 0, 3),),
        (torch.zeros(0, 3),),
        (x.double(),),
        (x, hx(4, 3, 4)),
        (x, hx(2, 5, 4)),
        (x, hx(4, 5, 3)),
        (x, hx(4, 4)),
        (torch.zeros(5, 3), hx(4, 1, 4)),
        (torch.zeros(5, 3), hx(4, 5)),
    ]
    if states == 2:
        calls.append((x, (torch.zeros(4, 5, 4), torch.zeros(4, 3, 4))))
    packed = pack_padded_sequence(x, [5, 4, 3, 2, 1])
    with pytest.raises(RuntimeError, match=r"Expected hidden.* size \(4, 5, 4\), got \[4, 3, 4\]"):
        ours(packed, hx(4, 3, 4))  # torch's LSTM lets these two through to errors about broadcasting
    with pytest.raises(RuntimeError, match=r"input\.size\(-1\) must be equal to input_size\. Expected 3, got 2"):
        ours(pack_padded_sequence(torch.zeros(5, 2, 2), [5, 4]))
    for arguments in calls:
        expected = complaint(lambda arguments=arguments: theirs(*arguments))
        assert expected is not None
        assert complaint(lambda arguments=arguments: ours(*arguments)) == expected


def test_idle_dropout_warns_as_torch_warns():
    texts = []
    for module in (carousel, nn):
        with pytest.warns(UserWarning, match="dropout option adds dropout") as seen:
            module.LSTM(3, 4, dropout=0.5)
        texts.append(str(seen[0].message))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_between_layers_draws_as_torch_does(name):
    ours, theirs = make_twins(name, num_layers=3, dropout=0.4, bidirectional=True)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    for training in (True, False):
        outputs = []
        for module in (ours.train(training), theirs.train(training)):
            torch.manual_seed(7)
            outputs.append(module(x)[0])
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
    assert not torch.equal(ours.train()(x)[0], ours.eval()(x)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_may_change_between_calls(name):
    ours, theirs = make_twins(name, num_layers=2)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    for ours.dropout in (0, 0.5, 0.0, 1, 0.2):
        theirs.dropout = ours.dropout
        outputs = []
        for module in (ours, theirs):
            torch.manual_seed(7)
            outputs.append(module(x)[0])
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_conversion_both_ways(name):
    _, theirs = make_twins(name, num_layers=2, bidirectional=True, batch_first=True, dropout=0.25)
    theirs.eval()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    twin = carousel.from_torch(theirs)
    with torch.no_grad():
        theirs.weight_hh_l0.mul_(0.5)  # from_torch shares the memory
    assert_same_with_gradients(twin, theirs, x)
    back = twin.to_torch()
    assert repr(back) == repr(theirs)
    assert_same_with_gradients(back, theirs, x)
    with torch.no_grad():
        back.weight_hh_l0.mul_(0.5)  # to_torch copies
    assert not torch.equal(back.weight_hh_l0, twin.weight_hh_l0)
    assert carousel.from_torch(twin) is twin


def test_conversion_says_what_it_cannot_convert():
    with pytest.raises(TypeError, match=r"expected torch\.nn\.LSTM, GRU or RNN, or one of their cells, got Linear"):
        carousel.from_torch(nn.Linear(2, 3))
    for layer, why in (
        (carousel.LSTM(2, 3, peephole=True), "torch.nn has no LSTMVariantCell"),
        (carousel.Recurrent(CATALOGUE["mgu"][0], 2, 3), "torch.nn has no MGUCell"),
        (carousel.LSTM(2, [3, 4], 2), "torch.nn has no layers of different widths"),
        (carousel.LSTM(2, 3, 2, residual=True), "torch.nn has no residual connections"),
        (carousel.LSTM(2, 3, regularization=Regularization(zoneout=0.1)), "torch.nn has no regularization"),
    ):
        with pytest.raises(ValueError, match=why):
            layer.to_torch()

    class Mine(carousel.LSTMCell):
        pass

    with pytest.raises(ValueError, match=r"torch\.nn has no Mine"):
        carousel.Recurrent(Mine, 2, 3).to_torch()


def test_inspect_gives_the_gates_of_every_layer_and_direction():
    layer = carousel.LSTM(3, 4, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    output, (h, c) = layer(x)
    seen = layer.inspect(x)
    assert len(seen) == 4
    for k, record in enumerate(seen):
        assert set(record) == {"i", "f", "g", "o", "h", "c"}
        before, now = record["c"][:, :-1], record["c"][:, 1:]
        if k % 2:  # backwards in time
            before, now = now, before
        part = slice(0, -1) if k % 2 else slice(1, None)
        torch.testing.assert_close(now, record["f"][:, part] * before + record["i"][:, part] * record["g"][:, part])
        end = 0 if k % 2 else -1
        torch.testing.assert_close(record["c"][:, end], c[k])
        torch.testing.assert_close(record["h"][:, end], h[k])
    torch.testing.assert_close(torch.cat([seen[2]["h"], seen[3]["h"]], -1), output)
    single = layer.inspect(x[0])
    torch.testing.assert_close(single[3]["f"], seen[3]["f"][0])


def test_a_cell_borrowed_from_the_layer_steps_with_the_layers_weights():
    layer = carousel.LSTM(3, 4, 2, bidirectional=True)
    x = torch.randn(5, 2, 3)
    state = None
    for x_t in x.flip(0):
        state = layer.cell(0, reverse=True)(x_t, state)
    torch.testing.assert_close(state[0], layer(x)[1][0][1])
    state[0].sum().backward()
    assert layer.weight_hh_l0_reverse.grad.abs().sum() > 0


def test_widths_differ_from_layer_to_layer():
    layer = carousel.LSTM(3, [4, 2, 5], num_layers=3, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    output, states = layer(x)
    assert output.shape == (6, 2, 10)
    assert [(h.shape, c.shape) for h, c in states] == [((2, 2, n), (2, 2, n)) for n in (4, 2, 5)]
    by_hand, lasts = x, []
    for k, (inputs, width) in enumerate(((3, 4), (8, 2), (4, 5))):
        one = nn.LSTM(inputs, width, bidirectional=True, dtype=torch.float64)
        one.load_state_dict({n.replace(f"_l{k}", "_l0"): p for n, p in layer.state_dict().items() if f"_l{k}" in n})
        by_hand, last = one(by_hand)
        lasts.append(last)
    torch.testing.assert_close(output, by_hand)
    torch.testing.assert_close(tensors(states), tensors(lasts))
    again, _ = layer(x, states)
    assert not torch.equal(again, output)
    with pytest.raises(ValueError, match="one number or one for each of 3 layers"):
        carousel.LSTM(3, [4, 2], num_layers=3)


def test_residual_connections_add_each_layers_input():
    layer = carousel.GRU(3, 4, 3, residual=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    records = layer.inspect(x)
    torch.testing.assert_close(layer(x)[0], sum(record["h"] for record in records))
    with pytest.raises(ValueError, match=r"residual needs layers of one width, got \[4, 5\]"):
        carousel.GRU(3, [4, 5], 2, residual=True)


def test_an_nn_lstms_weights_load_into_its_variants():
    theirs = nn.LSTM(3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    for options, same in (
        ({"peephole": True}, True),
        ({"peephole": True, "full_gate_recurrence": True}, True),
        ({"coupled": True}, False),
        ({"layer_norm": True}, False),
    ):
        ours = carousel.LSTM(3, 4, 2, bidirectional=True, dtype=torch.float64, **options)
        ours.load_state_dict(theirs.state_dict())
        assert isinstance(ours.cell(), LSTMVariantCell)
        assert torch.equal(ours.weight_hh_l1, theirs.weight_hh_l1)
        assert torch.allclose(ours(x)[0], theirs(x)[0], rtol=1e-12) is same
    missing = {k: v for k, v in theirs.state_dict().items() if k != "weight_hh_l1"}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "weight_hh_l1"'):
        ours.load_state_dict(missing)
    holder = nn.ModuleDict({"encoder": carousel.LSTM(3, 4, peephole=True)})
    holder.load_state_dict({f"encoder.{k}": v for k, v in nn.LSTM(3, 4).state_dict().items()})


def test_a_cell_with_submodules_and_buffers():
    class Scaled(carousel.Cell):
        gates = ("h",)

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.norm = nn.LayerNorm(self.hidden_size, device=self.weight_hh.device, dtype=self.weight_hh.dtype)
            self.register_buffer("scale", torch.arange(1.0, self.hidden_size + 1, dtype=self.weight_hh.dtype))

        def update(self, wx, uh, state):
            return (self.scale * self.norm(wx + uh).tanh(),), {}

    layer = carousel.Recurrent(Scaled, 3, 4, 2, dtype=torch.float64)
    assert "norm_weight_l1" in layer.state_dict()
    assert "scale_l0" in layer.state_dict()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    state = None
    for x_t in x:
        state = layer.cell(0)(x_t, state)
    torch.testing.assert_close(state, layer(x)[1][0])
    layer(x)[0].sum().backward()
    assert layer.norm_weight_l0.grad.abs().sum() > 0


def test_a_cell_with_a_step_of_its_own():
    class Doubled(carousel.GRUCell):
        """Two steps of a GRU for each x_t: the second product inside the recurrence fits no hidden map."""

        def forward(self, input, hx=None):
            return super().forward(input, super().forward(input, hx))

    layer = carousel.Recurrent(Doubled, 3, 4, bidirectional=True, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    state = None
    for x_t in x:
        state = layer.cell()(x_t, state)
    torch.testing.assert_close(layer(x)[1][0], state)
    output, _ = layer(x, lengths=[5, 2])
    torch.testing.assert_close(output[:2, 1], layer(x[:2, 1])[0])


def test_train_and_eval_reach_the_cell():
    class Noisy(carousel.RNNCell):
        def update(self, wx, uh, state):
            return (nn.functional.dropout((wx + uh).tanh(), 0.5, self.training),), {}

    layer = carousel.Recurrent(Noisy, 3, 40)
    x = torch.randn(5, 2, 3)
    assert (layer(x)[0] == 0).any()
    assert not (layer.eval()(x)[0] == 0).any()


def test_what_is_no_cell_is_refused():
    for cell, words in (
        (torch.relu, r"cell should be a subclass of carousel\.Cell, or a module with forward\(x, state\)"),
        (carousel.LSTMCell(2, 3), r"cell should be a subclass of carousel\.Cell"),
        (nn.LSTM, "does not return states like those that it is given"),
    ):
        with pytest.raises(TypeError, match=words):
            carousel.Recurrent(cell, 2, 3)
    assert repr(carousel.Recurrent(CATALOGUE["mgu"][0], 2, 3)) == "Recurrent(MGUCell, 2, 3)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": [5, 6]}, r"lengths should be from 1 to 5, got \[5, 6\]"),
        ({"lengths": [5, 0]}, r"lengths should be from 1 to 5, got \[5, 0\]"),
        ({"lengths": [5]}, r"lengths should be 2 integers, one for each sequence, got \[5\]"),
        ({"lengths": [1.5, 2.0]}, "lengths should be 2 integers"),
        ({"lengths": [True, True]}, "lengths should be 2 integers"),
        ({"reset": torch.zeros(5, 2)}, "reset should be bool of shape"),
        ({"reset": torch.zeros(2, 5, dtype=torch.bool)}, r"reset should be bool of shape \[5, 2\]"),
    ],
)
def test_lengths_and_resets_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        carousel.LSTM(3, 4)(torch.zeros(5, 2, 3), **arguments)


def test_threads_do_not_meet():
    """As nn.DataParallel runs replicas: shallow copies that differ in their parameters, at the same time."""
    layer = carousel.LSTM(4, 6, 2)
    replica = copy.copy(layer)
    replica._parameters = {name: nn.Parameter(torch.randn_like(p)) for name, p in layer._parameters.items()}
    x = torch.randn(20, 2, 4)
    expected = [module(x)[0] for module in (layer, replica)]
    wrong = []

    def work(k):
        for _ in range(40):
            if not torch.equal((layer, replica)[k](x)[0], expected[k]):
                wrong.append(k)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, [0, 1, 0, 1]))
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert all(p.device.type == "meta" for _, loop in layer._loops for p in loop.parameters())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf")])
def test_padding_is_not_read(name, rubbish):
    ours, _ = make_twins(name, bidirectional=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    outcomes = []
    for value in (0.0, rubbish):
        x[2:, 0] = value
        output, last = ours(x, lengths=[2, 5])
        gradients = torch.autograd.grad(output.sum(), ours.parameters())
        outcomes.append([output, *tensors(last), *gradients])
    torch.testing.assert_close(*outcomes, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_autocast_gives_torchs_dtypes(name):
    ours, theirs = make_twins(name, dtype=torch.float32)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        mine, reference = ours(x), theirs(x)
        ours(x, lengths=[5, 2])
        ours.backend = "eager"
        others = ours(x), ours(x, lengths=[5, 2])
    for some in (mine, *others):
        assert [t.dtype for t in tensors(some)] == [t.dtype for t in tensors(reference)]
    for a, b in zip(tensors(mine), tensors(reference), strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=0.05, atol=0.05)


def test_additions_are_forgiven_only_to_a_torch_checkpoint_and_only_their_own():
    ours = carousel.LSTM(3, 4, layer_norm=True)
    damaged = {k: v for k, v in ours.state_dict().items() if not k.startswith("gain")}
    with pytest.raises(RuntimeError, match="gain_ih_l0"):
        ours.load_state_dict(damaged)

    class Weighted(carousel.RNNCell):
        def shapes(self):
            return super().shapes() | {"weight": (self.hidden_size,)}

    both = nn.ModuleDict({"lin": nn.Linear(4, 4), "cell": Weighted(4, 6)})
    state = {k: v for k, v in both.state_dict().items() if k != "lin.weight"}
    with pytest.raises(RuntimeError, match=r"lin\.weight"):
        both.load_state_dict(state)


def test_a_parametrized_layer_resets_converts_and_is_converted():
    x = torch.randn(5, 2, 3)
    for kind in (carousel.LSTM, nn.LSTM):
        layer = nn.utils.parametrizations.weight_norm(kind(3, 4), "weight_hh_l0")
        before = {name: p.detach().clone() for name, p in layer.named_parameters()}
        layer.reset_parameters()
        assert not any(torch.equal(p, before[name]) for name, p in layer.named_parameters())
        other = layer.to_torch() if kind is carousel.LSTM else carousel.from_torch(layer)
        torch.testing.assert_close(other(x)[0], layer(x)[0])


def test_conversion_keeps_what_is_frozen():
    theirs = nn.GRU(3, 4)
    theirs.weight_hh_l0.requires_grad_(False)
    twin = carousel.from_torch(theirs)
    for module in (twin, twin.to_torch()):
        assert {n: p.requires_grad for n, p in module.named_parameters()} == {
            n: p.requires_grad for n, p in theirs.named_parameters()
        }


def test_lengths_go_with_padded_input_only():
    with pytest.raises(ValueError, match="lengths goes with padded input"):
        carousel.LSTM(3, 4)(pack_sequence([torch.zeros(2, 3)]), lengths=[2])
    output, _ = carousel.LSTM(3, 4)(torch.zeros(5, 0, 3), lengths=[])
    assert output.shape == (5, 0, 4)
    with pytest.raises(RuntimeError, match="layers of different widths need the state of each of 2, one by one"):
        carousel.LSTM(3, [4, 5], 2)(torch.zeros(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)))


def test_copies_and_pickles_are_whole_and_independent():
    layer = carousel.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    expected = layer(x)[0]
    for clone in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(clone(x)[0], expected)
        with torch.no_grad():
            clone.weight_hh_l0.zero_()
        assert torch.equal(layer(x)[0], expected)
        assert not torch.equal(clone(x)[0], expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", LAYERS)
def test_on_a_gpu(name):
    ours, theirs = make_twins(name, num_layers=2, bidirectional=True)
    x = torch.randn(6, 2, 3, dtype=torch.float64, device="cuda")
    assert_same_with_gradients(ours.cuda(), theirs.cuda(), x)
    packed = pack_sequence([x[:2, 0], x[:, 1]], enforce_sorted=False)
    torch.testing.assert_close(ours(packed)[0].data, theirs(packed)[0].data)
