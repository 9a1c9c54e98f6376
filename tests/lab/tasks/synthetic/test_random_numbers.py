"""Random numbers, and nothing to be learnt of them."""

import torch

from carousel.lab.tasks import RandomNumbers


def test_numbers_are_uniform_and_the_target_is_another():
    task = RandomNumbers(5)
    x, y, *_ = task.sample(20_000, torch.Generator().manual_seed(0))
    assert x.shape == (20_000, 5, 10)
    assert y.shape == (20_000, 1)
    for part in (x.flatten(1), y):
        assert ((part >= 0) & (part < 1)).all()
        torch.testing.assert_close(part.mean(0), torch.full_like(part[0], 0.5), atol=0.02, rtol=0)
    told = (x.flatten(1) - 0.5).T @ (y - 0.5) / len(x) * 12
    assert told.abs().max() < 0.04
    assert abs(task.loss(torch.full_like(y, 0.5), y) - task.baseline_loss) < 2e-3
