import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs in parallel, one thread each

import pytest
import torch

from carousel.engine import short


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)  # a training run in this process may have set it


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def ours(request, monkeypatch):
    """Short sequences are for other kernels; the tests, which are short, for ours, unless marked `short`."""
    if not request.node.get_closest_marker("short"):
        monkeypatch.setattr(short, "torchs", lambda *_: False)
        monkeypatch.setattr(short, "loops", lambda *_: False)
