"""A class shown at first, then noise."""

import torch
from generators import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import Latch


@settings(max_examples=30, deadline=None)
@given(seq_len=st.integers(2, 120), seed=st.integers(0, 2**16))
def test_the_class_is_shown_at_first_and_noise_ever_after(seq_len, seed):
    x, y, *_ = Latch(seq_len).sample(50, generator(seed))
    symbol, noise = x.unbind(-1)
    assert x.shape == (50, seq_len, 2)
    assert symbol[:, 0].tolist() == [(-1, 1)[k] for k in y]
    assert symbol[:, 1:].eq(0).all()
    assert noise[:, 0].eq(0).all()
    assert noise[:, 1:].ne(0).all()


def test_the_noise_is_normal_and_says_nothing_of_the_class():
    x, y, *_ = Latch(5).sample(40_000, generator())
    noise = x[:, 1:, 1]
    for part in (noise[y == 0], noise[y == 1]):
        torch.testing.assert_close(part.mean(0), torch.zeros(4), atol=0.03, rtol=0)
        torch.testing.assert_close(part.std(0), torch.ones(4), atol=0.03, rtol=0)
