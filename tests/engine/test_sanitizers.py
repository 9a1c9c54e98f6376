"""`.ci/sanitized` watches the kernels: one with a fault written into it is found out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SANITIZED = Path(__file__).parents[2] / ".ci" / "sanitized"
PROGRAM = """
import sys, torch, carousel
from carousel.engine.fused.cpu import build
right, wrong = sys.argv[1:]
load = build.load
def broken(sources):
    assert right in sources["forward"]
    return load(sources | {"forward": sources["forward"].replace(right, wrong)})
for build.load in load, broken:
    class Cell(carousel.LSTMCell): "for which a kernel is made anew"
    print(*carousel.Recurrent(Cell, 3, 21, backend="fused")(torch.randn(4, 2, 3))[0].shape, flush=True)
"""
OVERFLOW = "if (T + std::numeric_limits<long>::max() < 0 || double(T)"

if not shutil.which("g++") or subprocess.run([SANITIZED, "true"], capture_output=True).returncode:
    pytest.skip("no sanitizers", allow_module_level=True)


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("h(2 * B * out_width)", "h(B * out_width)", "AddressSanitizer: heap-buffer-overflow"),
        ("if (double(T)", OVERFLOW, "runtime error: signed integer overflow"),
    ],
)
def test_a_wrong_kernel_is_found_out(right, wrong, complaint):
    command = [SANITIZED, sys.executable, "-c", PROGRAM, right, wrong]
    done = subprocess.run(command, capture_output=True, text=True)
    assert complaint in done.stderr
    assert done.returncode
    assert done.stdout == "4 2 21\n"  # of the right one
