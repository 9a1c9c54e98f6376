"""The commands of scripts/ and of an installed package: the way into the lab, whose packages are an extra."""

import atexit
import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType


@contextmanager
def importing() -> Generator[None]:
    """Of what imports make nothing becomes garbage before the end: to look for it takes a seventh of a command's start,
    and in a fork copies it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)


def _lab(name: str) -> ModuleType:
    with importing():
        try:
            import_module("carousel.lab")
        except ModuleNotFoundError as error:  # which says what to install
            sys.exit(f"error: {error}")
        return import_module(f"carousel.lab.{name}")


def train() -> None:
    """Train one model, or sweep."""
    _lab("cli").main()


def report() -> None:
    """Gather the runs of a folder into tables, figures and a report."""
    _lab("cli").report()


def predict() -> None:
    """What a saved model makes of new data, as CSV."""
    _lab("predict").main()


def generate() -> None:
    """Continue a text with a trained model."""
    _lab("generate").main()


def bench() -> None:
    """Time our layers beside torch's, forward and training step."""
    _lab("bench").main()
