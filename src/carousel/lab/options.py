"""Objects from their configuration; what is wrong with an option is said in one line."""

import contextlib
import hashlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

import carousel

GIVEN = {
    "model.input_size": "the task's",
    "model.batch_first": "always true in the lab",
    "model.device": "the trainer's (trainer.accelerator)",
    "trainer.logger": "made of the group logger (write ~logger to go without)",
    "trainer.enable_checkpointing": "made of callbacks.checkpoints (null switches it off)",
    "trainer.callbacks": "made of the group callbacks (write ~callbacks to go without)",
}
"""What `build` hands over itself, so that a value from the configuration would be lost."""
FINDERS = ("hydra.utils.get_class", "carousel.lab.tasks.custom")
"""What makes something of the class that stands beside it, as `path`."""
INSTALLED = (Path(carousel.__file__).parent, Path(inspect.__file__).parent)


class OptionError(SystemExit):
    """Bad input: ends the program with one line that names the option and what is allowed."""

    def __init__(self, line: str) -> None:
        super().__init__(f"error: {line}")


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


@contextlib.contextmanager
def option(name: str, keys: Iterable[object] = ()):
    """Turn what a constructor says of its arguments, the `keys`, into a line that names the option."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__ or error
        if inner := re.search(r"^full_key: (\S+)$", str(error), re.M):
            name = inner[1]
        raise OptionError(f"{_named(name, first_line(cause), keys)}{_place(cause)}") from error
    except Exception as error:
        raise OptionError(f"{_named(name, first_line(error), keys)}{_place(error)}") from error


def _named(name: str, line: str, keys: Iterable[object]) -> str:
    """A constructor's line after the full name of the argument that it is about, as far as that can be told."""
    if subject := re.match(r"([a-z]\w*)( and ([a-z]\w*))? (must|should|has to|have to) ", line):
        both = " and ".join(f"{name}.{key}" for key in subject.group(1, 3) if key)
        return both + line[subject.start(4) - 1 :]
    if line.startswith((f"{name}.", f"{name}=")):
        return line
    for key in map(str, keys):
        if re.search(rf"\b{key}\b" if "_" in key[1:] else rf"`{key}`|\({key}=", line.partition(";")[0]):
            return f"{name}.{key}: {line}"
    return f"{name}: {line}"


def is_own(file: str) -> bool:
    """Whether a source file is neither Carousel's nor installed."""
    inside = any(Path(file).is_relative_to(home) for home in INSTALLED)
    return not inside and "site-packages" not in file and file.endswith(".py")


def code(config: dict[str, object]) -> dict[str, str]:
    """For each class or function named in the configuration that stands in a file of one's own, that file's hash."""
    found = {}
    for key, name in config.items():
        node, _, end = key.rpartition(".")
        got = end == "path" and config.get(f"{node}._target_") in FINDERS
        if isinstance(name, str) and (got or end == "_target_") and (file := _file(name)):
            found[f"{node}._code_"] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return found


def _file(name: str) -> Path | None:
    """The file of one's own that defines what has this dotted name."""
    module = name.rpartition(".")[0]
    while module:
        with contextlib.suppress(Exception):  # build says it better
            if spec := importlib.util.find_spec(module):
                return Path(spec.origin) if spec.origin and is_own(spec.origin) else None
        module = module.rpartition(".")[0]
    return None


def _place(error: BaseException) -> str:
    """Where somebody's own code, such as a cell, raised: there the option may not be at fault."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if is_own(f.filename)]
    if not frames or not own or own[-1] is not frames[-1]:
        return ""
    return f" ({type(error).__name__} in {frames[-1].filename}:{frames[-1].lineno}, {frames[-1].name})"


def make(name: str, node: DictConfig, kind: type | None = None, **given: Any) -> Any:
    """Instantiate `node`, the configuration of `name`.

    Raises:
        OptionError: it cannot be, or what comes out is no `kind`.
    """
    for key in node:
        if what := GIVEN.get(f"{name}.{key}"):
            raise OptionError(f"{name}.{key} is not yours to set: it is {what}")
    with option(name, node):
        made = instantiate(node, **given)
    if kind is not None and not isinstance(made, kind):
        raise OptionError(f"{name} must be a {kind.__module__.split('.')[0]} {kind.__name__}, got {node!r}")
    return made
