"""A neuron's voltage, against scipy's solver, finer steps, and what is known of its rest."""

import pytest
import torch
from generators import measured

from carousel.lab.tasks import FitzHughNagumo
from carousel.lab.tasks.synthetic.fitzhugh_nagumo import fitzhugh_nagumo


def test_another_solver_finds_the_same():
    integrate = pytest.importorskip("scipy.integrate")
    begins = torch.tensor([-0.9, 0.0, 0.7], dtype=torch.float64)
    found = fitzhugh_nagumo(begins, 401)
    for begin, values in zip(begins, found, strict=True):
        exact = integrate.solve_ivp(
            lambda t, x: [x[0] - x[0] ** 3 / 3 - x[1] + 0.5, (x[0] + 0.7 - 0.8 * x[1]) / 50],
            (0, 160), [float(begin), 0], "DOP853", t_eval=[0.4 * k for k in range(401)], rtol=1e-11, atol=1e-12,
        ).y[0]  # fmt: skip
        torch.testing.assert_close(values, torch.from_numpy(exact), rtol=0, atol=3e-5)


def test_half_the_step_is_a_sixteenth_of_the_error():
    begins = torch.linspace(-1, 1, 5, dtype=torch.float64)
    coarse, fine, finest = (fitzhugh_nagumo(begins, 101, substeps) for substeps in (4, 8, 32))
    assert 12 < (coarse - finest).abs().max() / (fine - finest).abs().max() < 20


def test_the_example_of_the_docstring():
    values = fitzhugh_nagumo(torch.zeros(1, dtype=torch.float64), 4)
    assert [round(value, 3) for value in values[0].tolist()] == [0, 0.244, 0.593, 1.032]


def test_it_goes_round_and_is_told_a_step_ahead():
    task = FitzHughNagumo()
    assert [task.split(name).input.shape for name in ("train", "val", "test")] == [
        (128, 1000, 1), (128, 1000, 1), (1024, 1000, 1)
    ]  # fmt: skip
    x, target, *_ = task.split("train")
    assert torch.equal(x[:, 1:], target[:, :-1])
    assert x[:, 0].min() < -0.9
    assert 0.9 < x[:, 0].max() <= 1
    rises = ((x[:, 1:] > 0) & (x[:, :-1] <= 0)).sum(1)
    assert set(rises.unique().tolist()) <= {3, 4}  # one about every 305 steps
    assert 1.9 < x.max() < 2.1
    found = {name: scores["rmse"] for name, scores in measured(task).items()}
    assert found == pytest.approx({"last value": 0.0789, "straight on": 0.0297, "best constant": 1.478}, rel=0.01)


def test_the_seed_is_of_the_beginnings():
    a, b, c = (FitzHughNagumo(20, seed).split("test").input for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not (a[:, 0] == c[:, 0]).any()
    parts = [FitzHughNagumo(20).split(name).input[:, 0, 0].tolist() for name in ("train", "val", "test")]
    assert len({begin for part in parts for begin in part}) == 128 + 128 + 1024


@pytest.mark.parametrize(("name", "least"), [("seq_len", 1), ("seed", 0)])
def test_bad_options_are_refused(name, least):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least {least}, got {least - 1}"):
        FitzHughNagumo(**{name: least - 1})
