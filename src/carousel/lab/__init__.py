"""The lab: tasks, training, measures over training, figures and reports. Its packages are the extra `lab`.

.. include:: README.md
"""

try:
    from .generate import continued
    from .records import collect as results
    from .saved import load
except ModuleNotFoundError as error:
    if (error.name or "").startswith("carousel"):
        raise
    raise ModuleNotFoundError(
        f'carousel.lab needs {error.name}: pip install "torch-carousel[lab]", or in a checkout -e ".[lab]"',
        name=error.name,
    ) from error

__all__ = ["continued", "load", "results"]
