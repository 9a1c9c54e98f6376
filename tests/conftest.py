import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs in parallel, one thread each

import pytest
import torch

from carousel.engine import fused, short
from carousel.engine.fused import build

THREADS = torch.get_num_threads()
REAL, CHEAP = list(build.FLAGS), ["-O1", *build.FLAGS[1:]]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)  # a training run in this process may have set these
    torch.set_num_threads(THREADS)


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


@pytest.fixture(autouse=True)
def flags(request):
    """Kernels are compiled at half the cost, and are slower, unless a test is marked `optimized`."""
    wanted = REAL if request.node.get_closest_marker("optimized") else CHEAP
    if wanted != build.FLAGS:
        build.FLAGS[:] = wanted
        for known in (build._identity.cache_clear, fused._plans.clear, fused._last.clear):
            known()
