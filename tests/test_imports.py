"""`import carousel` is the library: torch, and nothing of the lab."""

import subprocess
import sys


def test_the_library_imports_nothing_of_the_lab():
    heavy = ("lightning", "hydra", "omegaconf", "tensorboard", "matplotlib", "pandas", "rich", "carousel.lab")
    code = f"import sys, carousel; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
