"""The lab: tasks, training, measures over training, figures and reports. Its packages are the extra `lab`."""

from importlib.util import find_spec

_NEEDS = ("lightning", "hydra", "tensorboard", "matplotlib", "pandas", "rich")
if _missing := [name for name in _NEEDS if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f'carousel.lab needs {", ".join(_missing)}: pip install "torch-carousel[lab]", or in a checkout -e ".[lab]"',
        name=_missing[0],
    )

from .generate import continued  # noqa: E402
from .records import collect as results  # noqa: E402
from .saved import load  # noqa: E402

__all__ = ["continued", "load", "results"]
