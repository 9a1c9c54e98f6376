"""Forecasts: windows, splits, baselines and errors of any series, on one that counts."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.module import scores
from carousel.lab.tasks import Electricity, Forecast, MackeyGlass, Sunspots

FORECASTS = [Electricity, Sunspots, MackeyGlass]


@dataclasses.dataclass(frozen=True)
class Counting(Forecast):
    """The numbers from 0 to 99."""

    unit, step = "ones", "step"
    lags = {"5 ago": 5, "8 ago": 8, "last": 1}  # noqa: RUF012
    borders = (50, 75)

    def values(self):
        return torch.arange(100, dtype=torch.float64)


def numbers(task, z):
    return (z.double() * task.scale()[1] + task.scale()[0]).round().long().tolist()


def test_windows_and_targets_by_hand():
    task = Counting(window=5, horizon=2, every=10)
    train, val, test = (task.split(name) for name in ("train", "val", "test"))
    assert numbers(task, train.input[..., 0])[:2] == [[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]]
    assert numbers(task, train.target) == [[5, 6], [15, 16], [25, 26], [35, 36], [45, 46]]
    assert numbers(task, val.input[..., 0]) == [[45, 46, 47, 48, 49], [55, 56, 57, 58, 59], [65, 66, 67, 68, 69]]
    assert numbers(task, val.target) == [[50, 51], [60, 61], [70, 71]]
    assert numbers(task, test.target) == [[75, 76], [85, 86], [95, 96]]
    assert task.scale() == (24.5, pytest.approx(np.arange(50).std()))


@settings(max_examples=50, deadline=None)
@given(window=st.integers(5, 20), horizon=st.integers(1, 20), every=st.integers(1, 20))
def test_no_value_is_a_target_in_two_splits_and_none_is_seen_before(window, horizon, every):
    task = Counting(window, horizon, every)
    seen = {}
    for name in ("train", "val", "test"):
        batch = task.split(name)
        assert len(batch.input) == len(batch.target) > 0
        for past, future in zip(numbers(task, batch.input[..., 0]), numbers(task, batch.target), strict=True):
            assert [*past, *future] == list(range(past[0], past[0] + window + horizon))
        seen[name] = {n for row in numbers(task, batch.target) for n in row}
    assert max(seen["train"]) < 50 <= min(seen["val"])
    assert max(seen["val"]) < 75 <= min(seen["test"])


def test_baselines_and_errors_by_hand():
    task = Counting(window=6, horizon=7, every=3)
    baselines, batch = task.baselines(), task.split("test")
    assert list(baselines) == ["5 ago", "last", "best constant"]  # 8 ago is not in the window
    first = numbers(task, batch.target)[0]
    assert first == [75, 76, 77, 78, 79, 80, 81]
    assert numbers(task, baselines["5 ago"](batch))[0] == [70, 71, 72, 73, 74, 70, 71]
    assert numbers(task, baselines["last"](batch))[0] == [74] * 7
    found = scores(task, baselines["5 ago"], [batch])
    assert found["mae"] == pytest.approx((5 * 5 + 2 * 10) / 7)
    assert found["mase"] == pytest.approx((5 * 5 + 2 * 10) / 7 / 5)  # 5 steps ago is always 5 less
    constant = torch.tensor(numbers(task, task.split("train").target), dtype=torch.float64).mean(0)
    torch.testing.assert_close(task.answer(baselines["best constant"](batch))[0].double(), constant)


@pytest.mark.parametrize("kind", FORECASTS)
def test_windows_are_views(kind):
    task = kind()
    batch = task.split("train")
    assert batch.input.shape == (len(batch.target), task.window, 1)
    assert batch.input.untyped_storage().nbytes() == 4 * len(task.values())
    assert batch.input.dtype is torch.float32


@pytest.mark.parametrize("kind", FORECASTS)
def test_the_scale_is_of_the_training_part_alone(kind, monkeypatch):
    task = kind()
    before, values = task.scale(), task.values().clone()
    values[task.borders[0] :] *= 7
    monkeypatch.setattr(kind, "values", lambda self: values)
    assert kind().scale() == before
    task = kind()
    train = torch.cat([task.split("train").input[0, :, 0], task.split("train").target.flatten()])
    assert abs(train.mean()) < 0.1


@pytest.mark.parametrize("kind", FORECASTS)
def test_what_is_read_and_answered_is_in_the_series_unit(kind):
    task, test = kind(), kind().split("test")
    begin = task.borders[1]
    new = task.values()[begin - task.window - 3 : begin]
    assert torch.equal(task.read(new.reshape(1, -1, 1))[0], test.input[0])
    torch.testing.assert_close(
        task.answer(test.target[0]).double(), task.values()[begin : begin + task.horizon], rtol=1e-6, atol=1e-3
    )
    with pytest.raises(ValueError, match=f"needs the last {task.window} {task.step}s, got {task.window - 1}"):
        task.read(new[: task.window - 1].reshape(1, -1, 1))


@pytest.mark.parametrize("kind", FORECASTS)
def test_options_that_cannot_be(kind):
    season = next(iter(kind.lags.values()))
    for options, words in (
        ({"window": season - 1}, f"window must be an integer of at least {season}"),
        ({"window": 100.5}, "window must be an integer"),
        ({"horizon": 0}, "horizon must be an integer of at least 1, got 0"),
        ({"every": "a"}, "every must be an integer of at least 1, got 'a'"),
        ({"horizon": 20_000}, "horizon must leave the splits a forecast"),
        ({"window": 20_000}, "horizon must leave the splits a forecast"),
    ):
        with pytest.raises(ValueError, match=words):
            kind(**options).split("train")


@pytest.mark.parametrize("kind", FORECASTS)
@pytest.mark.parametrize("horizon", [1, None])
def test_examples_show_the_truth_and_the_forecast(kind, horizon):
    task = kind() if horizon is None else kind(horizon=horizon)

    (figure,) = task.examples(lambda batch: torch.full_like(batch.target, 0.5)).values()
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    first = task.borders[1]
    truth = task.values()[first : first + task.horizon].numpy()
    np.testing.assert_allclose(lines["truth"].get_ydata(), truth, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(lines["forecast"].get_ydata(), task.scale()[0] + 0.5 * task.scale()[1], rtol=1e-5)
    season, lag = next(iter(task.lags.items()))
    assert lines[season].get_ydata()[0] == pytest.approx(float(task.values()[first - lag]), rel=1e-5)
    assert task.when(first) in ax.get_title()
    assert len(figure.axes) == 6
