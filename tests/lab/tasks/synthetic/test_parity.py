"""Whether the number of ones is odd."""

import torch
from generators import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.tasks import Parity


@settings(max_examples=30, deadline=None)
@given(seq_len=st.integers(2, 120), seed=st.integers(0, 2**16))
def test_the_class_is_whether_the_number_of_ones_is_odd(seq_len, seed):
    x, y, *_ = Parity(seq_len).sample(50, generator(seed))
    assert x.shape == (50, seq_len, 1)
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    assert [sum(bit == 1 for bit in row) % 2 for row in x[..., 0].tolist()] == y.tolist()


def test_all_bits_but_one_say_nothing_of_the_parity():
    x, y, *_ = Parity(4).sample(40_000, generator())
    seen = (x[:, 1:, 0] == 1).long() @ torch.tensor([4, 2, 1])
    share = torch.stack([y[seen == pattern].float().mean() for pattern in range(8)])
    torch.testing.assert_close(share, torch.full((8,), 0.5), atol=0.03, rtol=0)
