"""What is said of the gates, against gates whose values are known."""

import pytest
import torch
from torch import nn

import carousel
from carousel import cells
from carousel.gradients import gates, watch
from carousel.initialization import Chrono


def constant(kind, **values):
    """A layer whose gates have these values at every step: the weights are zero."""
    layer = kind(2, 4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        for gate, value in values.items():
            layer.bias_ih_l0[layer.cell().rows(gate)] = torch.tensor(value).logit()
    return layer


def test_shares_and_timescales_of_gates_that_stand_still():
    layer = constant(carousel.LSTM, i=[0.05, 0.5, 0.95, 0.5], f=[0.5, 0.9375, 0.99, 0.05])
    (seen,) = gates(layer, lambda: layer(torch.randn(7, 3, 2)))
    assert seen.keep_gate == "f"
    assert set(seen.values) == {"i", "f", "g", "o"}
    assert seen.values["f"].shape == (21, 4)
    assert seen.closed()["i"].tolist() == [1, 0, 0, 0]
    assert seen.open()["i"].tolist() == [0, 0, 1, 0]
    assert seen.open()["f"].tolist() == [0, 1, 1, 0]
    torch.testing.assert_close(seen.timescales(), torch.tensor([2, 16, 100, 1 / 0.95]).double(), rtol=1e-5, atol=0)


def test_they_are_the_gates_that_inspect_shows():
    torch.manual_seed(0)
    layer = carousel.GRU(3, 5, num_layers=2, bidirectional=True)
    x = torch.randn(6, 4, 3)
    found = gates(layer, lambda: layer(x))
    assert len(found) == 4
    for one, record in zip(found, layer.inspect(x), strict=True):
        for name, value in one.values.items():
            pair = value.sort(0)[0], record[name].flatten(0, 1).sort(0)[0].detach()  # reversed directions too
            torch.testing.assert_close(*pair)
            assert one.closed()[name].tolist() == (record[name] < 0.1).double().mean((0, 1)).tolist()


def test_padding_is_left_out():
    torch.manual_seed(0)
    layer = carousel.LSTM(3, 5)
    x = torch.randn(6, 2, 3)
    (padded,) = gates(layer, lambda: layer(x, lengths=[6, 2]))
    (record,) = layer.inspect(x)
    expected = torch.cat([record["f"][:, 0], record["f"][:2, 1]]).sort(0)[0]
    torch.testing.assert_close(padded.values["f"].sort(0)[0], expected)


def test_chrono_spreads_the_timescales_up_to_its_length():
    torch.manual_seed(0)
    layer = carousel.LSTM(2, 2000, init=Chrono(100))
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    (seen,) = gates(layer, lambda: layer(torch.zeros(3, 1, 2)))
    timescales = seen.timescales()  # 1/(1 - f) = 1 + u for u from U(1, 99)
    assert timescales.min() > 2
    assert timescales.max() < 100.1
    assert timescales.mean() == pytest.approx(51, rel=0.03)


def test_inside_a_model_and_for_torchs_modules():
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Linear(2, 3), "recurrent": nn.LSTM(3, 4)})
    x = torch.randn(5, 2, 2)
    (seen,) = gates(model["recurrent"], lambda: model["recurrent"](model["embed"](x)))
    twin = carousel.from_torch(model["recurrent"])
    (record,) = twin.inspect(model["embed"](x))
    torch.testing.assert_close(seen.values["f"], record["f"].flatten(0, 1).detach())


def test_without_a_gate_that_keeps_there_is_no_timescale():
    layer = carousel.RNN(2, 3)
    (seen,) = gates(layer, lambda: layer(torch.randn(4, 1, 2)))
    assert seen.keep_gate is None
    with pytest.raises(ValueError, match="no gate that keeps the old state"):
        seen.timescales()


def test_a_unit_that_zoneout_holds_back_is_no_padding():
    torch.manual_seed(0)
    layer = carousel.LSTM(3, 5, regularization=carousel.Regularization(zoneout=(1.0, 0.0)))
    (seen,) = gates(layer, lambda: layer(torch.randn(6, 2, 3)))
    assert seen.values["f"].shape == (12, 5)


def test_watching_goes_on_beside_other_measures():
    layer, x = carousel.LSTM(3, 5), torch.randn(6, 2, 3)
    with watch(layer) as flows:
        layer(x)[0].sum().backward()
        gates(layer, lambda: layer(x))
    assert len(flows) == 1  # the step's: no backward pass came to the others


@pytest.mark.parametrize(
    ("kind", "options", "gate", "keep_gate"),
    [
        (cells.MGUCell, {}, "f", "1 - f"),
        (cells.HighwayCell, {}, "t", "1 - t"),
        (cells.LSTMVariantCell, {"coupled": True}, "i", "1 - i"),
    ],
)
def test_timescales_where_one_minus_a_gate_keeps(kind, options, gate, keep_gate):
    values = [0.5, 0.25, 0.01, 1e-6]
    layer = constant(lambda *sizes: carousel.Recurrent(kind, *sizes, dtype=torch.float64, **options), **{gate: values})
    (seen,) = gates(layer, lambda: layer(torch.randn(7, 3, 2, dtype=torch.float64)))
    assert seen.keep_gate == keep_gate
    expected = 1 / torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(seen.timescales(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen.keep()[0], 1 - 1 / expected, rtol=1e-6, atol=0)
