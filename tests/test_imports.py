"""`import carousel` is the library: torch, nothing of the lab, and nothing that takes long."""

import subprocess
import sys


def imported(names: tuple[str, ...]) -> str:
    """Those of these modules that `import carousel` imports, and `import torch` does not."""
    code = "import sys, torch; before = set(sys.modules); import carousel; new = set(sys.modules) - before"
    code += f"; print(sorted(name for name in {names} if name in new))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_library_imports_nothing_of_the_lab():
    heavy = ("lightning", "hydra", "omegaconf", "tensorboard", "matplotlib", "pandas", "rich", "carousel.lab")
    assert imported(heavy) == "[]"


def test_the_library_imports_nothing_that_takes_long():
    slow = ("numpy", "sympy", "torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "torch.onnx")
    assert imported((*slow, "carousel.engine.fused")) == "[]"
