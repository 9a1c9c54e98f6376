"""The cells that torch.nn lacks, against formulas written out on their own, unit by unit, in plain floats."""

import math

import pytest
import torch
from agreement import CATALOGUE, fill

import carousel
from carousel.cells import ABLATIONS, HighwayCell, IndRNNCell, JANETCell, LSTMVariantCell, MGUCell

H, I = 3, 2  # noqa: E741


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def setup(cell_type, **options):
    cell = fill(cell_type(I, H, dtype=torch.float64, **options)).requires_grad_(False)
    x = torch.randn(I, dtype=torch.float64)
    states = [torch.randn(H, dtype=torch.float64) for _ in cell.states]
    return cell, x, states


def maps(cell, x, h, gate, unit):
    """W x + b and U h + b of one gate and unit, as floats."""
    row = cell.gates.index(gate) * H + unit
    w = sum(float(cell.weight_ih[row, k]) * float(x[k]) for k in range(I)) + float(cell.bias_ih[row])
    u = sum(float(cell.weight_hh[row, k]) * float(h[k]) for k in range(H)) + float(cell.bias_hh[row])
    return w, u


def test_minimal_gated_unit():
    cell, x, (h,) = setup(MGUCell)
    new = cell(x, h)
    for k in range(H):
        f = sigmoid(sum(maps(cell, x, h, "f", k)))
        w, u = maps(cell, x, h, "n", k)
        n = math.tanh(w + f * u)
        assert float(new[k]) == pytest.approx((1 - f) * float(h[k]) + f * n)


def test_janet():
    cell, x, (h,) = setup(JANETCell, beta=0.5)
    new = cell(x, h)
    for k in range(H):
        s, g = sum(maps(cell, x, h, "f", k)), math.tanh(sum(maps(cell, x, h, "g", k)))
        assert float(new[k]) == pytest.approx(sigmoid(s) * float(h[k]) + (1 - sigmoid(s - 0.5)) * g)


def test_highway():
    cell, x, (h,) = setup(HighwayCell)
    new = cell(x, h)
    for k in range(H):
        n, t = math.tanh(sum(maps(cell, x, h, "n", k))), sigmoid(sum(maps(cell, x, h, "t", k)))
        assert float(new[k]) == pytest.approx(t * n + (1 - t) * float(h[k]))


@pytest.mark.parametrize("bias", [True, False])
def test_independently_recurrent(bias):
    cell, x, (h,) = setup(IndRNNCell, bias=bias)
    new = cell(x, h)
    assert cell.weight_hh.shape == (H, 1)
    for k in range(H):
        a = sum(float(cell.weight_ih[k, j]) * float(x[j]) for j in range(I)) + float(cell.weight_hh[k]) * float(h[k])
        a += float(cell.bias_ih[k]) + float(cell.bias_hh[k]) if bias else 0
        assert float(new[k]) == pytest.approx(max(a, 0))


def greff(variant, cell, x, h, c, old):
    """One step of Greff et al. 2017, section 2.A with the change of section 3, as plain floats."""
    new = {name: [] for name in "ifoch"}
    for k in range(H):
        a = {gate: sum(maps(cell, x, h, gate, k)) for gate in "ifgo"}
        if variant == "FGR":
            before = [float(v) for gate in old for v in gate]
            for n, gate in enumerate("ifo"):
                a[gate] += sum(float(w) * v for w, v in zip(cell.weight_gg[n * H + k], before, strict=True))

        def peep(gate, cell_state, k=k):
            has = variant != "NP" and hasattr(cell, f"weight_c{gate}")
            return float(getattr(cell, f"weight_c{gate}")[k]) * cell_state if has else 0.0

        i = 1.0 if variant == "NIG" else sigmoid(a["i"] + peep("i", float(c[k])))
        f = 1.0 if variant == "NFG" else 1 - i if variant == "CIFG" else sigmoid(a["f"] + peep("f", float(c[k])))
        z = a["g"] if variant == "NIAF" else math.tanh(a["g"])
        now = z * i + float(c[k]) * f
        o = 1.0 if variant == "NOG" else sigmoid(a["o"] + peep("o", now))
        out = (now if variant == "NOAF" else math.tanh(now)) * o
        for name, value in zip("ifoch", (i, f, o, now, out), strict=True):
            new[name].append(value)
    return new


@pytest.mark.parametrize("variant", ABLATIONS)
def test_the_eight_ablations_of_greff(variant):
    cell, x, (h, c, *old) = setup(LSTMVariantCell, **ABLATIONS[variant])
    new_h, new_c, *gates = cell(x, (h, c, *old))
    expected = greff(variant, cell, x, h, c, old)
    assert new_h.tolist() == pytest.approx(expected["h"])
    assert new_c.tolist() == pytest.approx(expected["c"])
    assert [g.tolist() for g in gates] == [pytest.approx(expected[name]) for name in "ifo"[: len(gates)]]


def test_every_parameter_of_every_variant_takes_part():
    for name, (cell_type, options) in CATALOGUE.items():
        layer = fill(carousel.Recurrent(cell_type, I, H, dtype=torch.float64, backend="eager", **options))
        layer(torch.randn(4, 2, I, dtype=torch.float64))[0].sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters()), name


def test_layer_norm_is_ba_et_als():
    cell, x, (h, c) = setup(LSTMVariantCell, layer_norm=True)

    def norm(a, gain, shift):
        return (a - a.mean()) / (a.var(correction=0) + 1e-5).sqrt() * gain + shift

    a = norm(cell.weight_ih @ x + cell.bias_ih, cell.gain_ih, cell.shift_ih)
    a = a + norm(cell.weight_hh @ h + cell.bias_hh, cell.gain_hh, cell.shift_hh)
    i, f, g, o = a.split(H)
    expected = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h, new_c = cell(x, (h, c))
    torch.testing.assert_close(new_c, expected)
    torch.testing.assert_close(new_h, o.sigmoid() * norm(expected, cell.gain_c, cell.shift_c).tanh())


def test_projection_is_a_matrix_after_the_step():
    cell, x, _ = setup(carousel.LSTMCell, proj_size=2)
    h, c = torch.randn(2, dtype=torch.float64), torch.randn(H, dtype=torch.float64)
    plain = carousel.LSTMCell(I, 2, dtype=torch.float64)  # only to show the shapes apart
    assert cell.weight_hh.shape == (4 * H, 2) != plain.weight_hh.shape
    a = cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
    i, f, g, o = a.split(H)
    expected = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h, new_c = cell(x, (h, c))
    torch.testing.assert_close(new_c, expected)
    torch.testing.assert_close(new_h, cell.weight_hr @ (o.sigmoid() * expected.tanh()))
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        MGUCell(I, H, proj_size=2)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"without must name parts among input_gate, forget_gate.*, got gate"):
        LSTMVariantCell(I, H, without=["gate"])
    with pytest.raises(ValueError, match="coupled needs both"):
        LSTMVariantCell(I, H, coupled=True, without=["input_gate"])


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_conversion_of_cells(name):
    ours = CATALOGUE[name][0](I, H, dtype=torch.float64)
    x = torch.randn(4, I, dtype=torch.float64)
    theirs = ours.to_torch()
    for a, b in zip(torch.utils._pytree.tree_leaves(ours(x)), torch.utils._pytree.tree_leaves(theirs(x)), strict=True):
        torch.testing.assert_close(a, b)
    twin = carousel.from_torch(theirs)
    assert type(twin) is type(ours)
    assert twin.weight_hh.data_ptr() == theirs.weight_hh.data_ptr()


def test_conversion_of_cells_says_what_it_cannot():
    with pytest.raises(ValueError, match=r"torch\.nn has no MGUCell"):
        MGUCell(I, H).to_torch()
    with pytest.raises(ValueError, match=r"torch\.nn\.LSTMCell has no projection"):
        carousel.LSTMCell(I, H, proj_size=2).to_torch()
