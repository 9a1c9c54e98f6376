import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs in parallel, one thread each

import pytest
import torch

from carousel.engine import short
from carousel.engine.fused.cpu import build
from carousel.engine.registry import REGISTRY

QUICK = (
    *("cells/test_cells", "cells/test_variants", "cells/test_contract.py::test_an_update_that_returns"),
    *("cells/test_modern.py::test_a_sequence_is_what", "engine/test_build"),
    *("engine/test_fused.py::test_one_step", "engine/test_fused.py::test_nan", "engine/test_fused.py::test_streaming"),
    *("engine/test_choice.py::test_a_cell_that", "engine/test_graphs.py::test_inputs_that_depend"),
    *("engine/test_torch_kernels.py::test_the_loops_numbers", "engine/test_phases.py::test_second_derivatives"),
    *("gradients/test_flow.py::test_it_is_the_total", "gradients/test_paths.py::test_the_total"),
    *("gradients/test_jacobian.py::test_it_is_the_product", "gradients/test_lyapunov.py::test_the_first"),
    *("lab/tasks/synthetic", "lab/tasks/test_forecast", "lab/test_data", "lab/test_records", "lab/test_scores"),
    *("lab/test_module.py::test_the_same_seed", "test_base.py::test_the_names", "test_cli.py::test_one_run"),
    *("test_conf.py::test_a_run_is_named", "test_contributing", "test_grids", "test_regularization", "test_layers"),
)
"""Where the tests of `pytest -m quick` stand: some of everything, in under a minute."""
THREADS = torch.get_num_threads()
gc.set_threshold(700, 10, 1000)  # a full collection looks at half a million objects of torch's and Lightning's
REAL, CHEAP = list(build.FLAGS), ["-O0", *build.FLAGS[1:]]


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(QUICK):
            item.add_marker("quick")


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
    """Kernels are compiled at less than half the cost, and are slower, unless a test is marked `optimized`."""
    wanted = REAL if request.node.get_closest_marker("optimized") else CHEAP
    if wanted != build.FLAGS:
        build.FLAGS[:] = wanted
        build._identity.cache_clear()
        REGISTRY.forget()
