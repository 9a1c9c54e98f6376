"""The order of two, three or four symbols."""

import math

import pytest
import torch
from generators import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import TemporalOrder

PLACES = {
    2: [(0.1, 0.2), (0.5, 0.6)],
    3: [(0.1, 0.2), (0.33, 0.43), (0.66, 0.76)],
    4: [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.7, 0.8)],
}


@settings(max_examples=60, deadline=None)
@given(relevant=st.sampled_from([2, 3, 4]), seq_len=st.integers(10, 150), seed=st.integers(0, 2**16))
def test_symbols_are_hidden_where_they_should(relevant, seq_len, seed):
    x, y, *_ = TemporalOrder(seq_len, relevant).sample(50, generator(seed))
    assert x.shape == (50, seq_len, 8)
    assert x.sum(-1).eq(1).all()
    symbols = x.argmax(-1)
    assert symbols[:, 0].eq(6).all()
    assert symbols[:, -1].eq(7).all()
    assert symbols[:, 1:-1].lt(6).all()
    for row, target in zip(symbols, y, strict=True):
        found = row.eq(4).logical_or(row.eq(5)).nonzero()[:, 0].tolist()
        for where, (low, high) in zip(found, PLACES[relevant], strict=True):
            assert int(low * seq_len + 1e-9) <= where <= int(high * seq_len + 1e-9)
        assert target == int("".join("XY"[row[k] == 5] for k in found).replace("X", "0").replace("Y", "1"), 2)


def test_the_order_of_two_is_what_it_was():
    x, y, *_ = TemporalOrder(10).sample(3, generator())
    assert y.tolist() == [2, 2, 3]
    assert x.argmax(-1).tolist() == [
        [6, 5, 1, 0, 3, 4, 3, 3, 1, 7],
        [6, 2, 5, 3, 2, 4, 0, 0, 2, 7],
        [6, 3, 5, 2, 0, 1, 5, 1, 1, 7],
    ]


@pytest.mark.parametrize("relevant", [2, 3, 4])
def test_all_classes_are_equally_likely(relevant):
    task = TemporalOrder(20, relevant)
    _, y, *_ = task.sample(16_000, generator())
    assert task.output_size == 2**relevant
    assert task.baseline_loss == math.log(2**relevant)
    torch.testing.assert_close(y.bincount() / 16_000, torch.full((2**relevant,), 2.0**-relevant), atol=0.01, rtol=0)


@pytest.mark.parametrize("relevant", [1, 5, 2.0, "2", True])
def test_other_numbers_of_symbols_are_refused(relevant):
    with pytest.raises(ValueError, match=f"relevant must be 2, 3 or 4, got {relevant}"):
        TemporalOrder(50, relevant)
