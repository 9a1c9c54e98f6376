"""`import carousel` is the library: torch, nothing of the lab, and nothing that takes long."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = ("train", "report", "predict", "generate", "bench")
LAB = ("lightning", "hydra", "omegaconf", "tensorboard", "matplotlib", "pandas", "rich")
BLOCKED = f"import sys; sys.modules |= dict.fromkeys({(*LAB, 'numpy')}); "


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imported(names: tuple[str, ...]) -> str:
    """Those of these modules that `import carousel` imports, and `import torch` does not."""
    code = "import sys, torch; before = set(sys.modules); import carousel; new = set(sys.modules) - before"
    return python(code + f"; print(sorted(name for name in {names} if name in new))")


def test_the_library_imports_nothing_of_the_lab():
    assert imported((*LAB, "carousel.lab")) == "[]"


def test_the_library_imports_nothing_that_takes_long():
    slow = ("numpy", "sympy", "torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "torch.onnx")
    assert imported((*slow, "carousel.engine.fused.plans", "carousel.engine.fused.cpu.build")) == "[]"


def test_the_library_works_with_torch_alone():
    code = "import torch, carousel, carousel.testing; x = torch.randn(9, 2, 3); layer = carousel.GRU(3, 4, 2); "
    code += "(flow, _) = carousel.gradients.flow(layer, lambda: layer(x)[0][-1].sum()); print(flow.rms()['h'].shape)"
    assert python(BLOCKED + code) == "torch.Size([9])"


def test_without_the_labs_packages_each_script_ends_in_one_line_that_says_what_to_install():
    code = f"""{BLOCKED}
import runpy
for name in {NAMES}:
    try:
        runpy.run_path(f"{SCRIPTS}/{{name}}.py", run_name="__main__")
    except SystemExit as end:
        print(end.code)
"""
    lines = python(code).splitlines()
    assert len(lines) == len(NAMES)
    (line,) = set(lines)
    told, install = line.split(": pip install ")
    assert told.removeprefix("error: carousel.lab needs ") in {"lightning", "hydra", "pandas", "matplotlib"}
    assert install == '"torch-carousel[lab]", or in a checkout -e ".[lab]"'


def test_commands_import_with_the_collector_off_and_leave_it_on():
    code = "import gc; from carousel.commands import importing\n"
    code += "try:\n  with importing(): print(gc.isenabled(), gc.get_freeze_count() > 0); raise ImportError\n"
    code += "except ImportError: print(gc.isenabled(), gc.get_freeze_count() > 0)"
    assert python(code).splitlines() == ["False False", "True True"]
