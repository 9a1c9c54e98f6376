"""What is wrong with an option, in one line; and that none is without effect."""

import contextlib
import hashlib
import importlib.util
import inspect
import re
import traceback
import types
import typing
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import carousel

KEYS = (
    "model",
    "task",
    "optimizer",
    "scheduler",
    "encoder",
    "head",
    "tested",
    "trainer",
    "logger",
    "callbacks",
    "experiment",
)
NUMBERS = ("seed", "data_seed", "batch_size", "train_size", "eval_size", "threads")
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
def option(name: str):
    """Turn what a constructor says of its arguments into a line that names the option."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise OptionError(f"{name}: {first_line(cause)}{_place(cause)}") from error
    except (TypeError, ValueError, AttributeError, MisconfigurationException, OmegaConfBaseException) as error:
        raise OptionError(f"{name}: {first_line(error)}{_place(error)}") from error


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
        OptionError: it cannot be, an argument is of the wrong type, or what comes out is no `kind`.
    """
    for key in node:
        if what := GIVEN.get(f"{name}.{key}"):
            raise OptionError(f"{name}.{key} is not yours to set: it is {what}")
    try:
        with option(name):
            made = instantiate(node, **given)
    except OptionError as error:
        if isinstance(error.__context__.__cause__, TypeError):  # Python's words: say which argument, if it can be told
            check_types(name, node)
        raise
    check_types(name, node)
    if kind is not None and not isinstance(made, kind):
        raise OptionError(f"{name} must be a {kind.__module__.split('.')[0]} {kind.__name__}, got {node!r}")
    return made


def check_types(name: str, node: Any) -> None:
    """Refuse a scalar of another type than a constructor's signature names: true or 'abc' for a number, 1.5 for an
    integer. Signatures that do not say are believed.

    Raises:
        OptionError: naming the option.
    """
    if not isinstance(node, DictConfig) or node.get("_target_") is None:
        return
    parameters = _parameters(get_object(node._target_))
    for key, value in node.items():
        check_types(f"{name}.{key}", value)
        allowed = parameters.get(key)
        if allowed and isinstance(value, bool | int | float | str | None) and not _fits(value, allowed):
            words = sorted({"NoneType": "null", "bool": "true or false", "int": "an integer", "float": "a number"}.get(
                t.__name__, "a string") for t in allowed)  # fmt: skip
            raise OptionError(f"{name}.{key} must be {' or '.join(words)}, got {value!r}")


def _fits(value: Any, allowed: set[type]) -> bool:
    return type(value) in allowed or (type(value) is int and float in allowed)


def _parameters(target: Any) -> dict[str, set[type]]:
    """The scalar types that each parameter may have; parameters that may be something else as well are left out."""
    found: dict[str, set[type]] = {}
    for owner in target.__mro__[:-1] if isinstance(target, type) else (target,):
        function = vars(owner).get("__init__") if isinstance(owner, type) else owner
        try:
            hints, signature = typing.get_type_hints(function), inspect.signature(function)
        except (TypeError, ValueError, NameError):
            continue
        for name, parameter in signature.parameters.items():
            allowed = _scalars(hints[name]) if name in hints else {type(parameter.default)} & {bool, int, float}
            if name not in found and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found[name] = allowed | ({type(None)} if parameter.default is None and allowed else set())
    return found


def _scalars(hint: Any) -> set[type]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*map(_scalars, typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return set(map(type, typing.get_args(hint)))
    if hint in (bool, int, float, str, type(None)):
        return {hint}
    return {str} if isinstance(hint, type) and issubclass(hint, Path) else set()


def check(cfg: DictConfig, overrides: dict[str, str]) -> None:
    """Refuse what can be told to be wrong from the configuration alone, options without effect among it.

    Raises:
        OptionError: naming the option.
    """
    unknown = [str(key) for key in cfg if key not in (*KEYS, *NUMBERS, "hydra")]
    text = OmegaConf.to_yaml(cfg) if unknown else ""
    for key in unknown:
        if not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text):  # no other option refers to it
            raise OptionError(f"{key}: no such option; allowed here: {', '.join(KEYS + NUMBERS)}")
    for key, value in overrides.items():
        if value.replace(" ", "") == "{}":
            raise OptionError(f"{key}={{}} changes nothing: it is merged with what is there; to go without, ~{key}")
    for key in ("model", "task", "optimizer", "trainer", *NUMBERS):
        if key not in cfg:
            raise OptionError(f"~{key}: there is no run without")
    for name, least in (("seed", 0), ("data_seed", 0), ("threads", 1)):
        value = cfg[name]
        if type(value) is not int or value < least:
            raise OptionError(f"{name} must be an integer of at least {least}, got {value!r}")
    if cfg.seed >= 2**32:
        raise OptionError(f"seed must be under 2**32 = {2**32}, got {cfg.seed}")
    trainer = cfg.trainer
    if type(trainer.max_steps) is not int:
        raise OptionError(f"trainer.max_steps must be an integer, got {trainer.max_steps}")
    or_null = {"gradient_clip_val": "null (no clipping) or "}
    intervals = ("val_check_interval", "check_val_every_n_epoch", "accumulate_grad_batches")
    for key in (*or_null, *intervals, "limit_val_batches", "limit_test_batches"):
        value = trainer.get(key)
        if isinstance(value, int | float) and not value > 0:  # nan is not
            raise OptionError(f"trainer.{key} must be {or_null.get(key, '')}over 0, got {value}")
    if trainer.get("limit_train_batches") == 0 and trainer.max_steps != 0:
        raise OptionError("trainer.limit_train_batches must be over 0, got 0; for no training, trainer.max_steps=0")
    every = trainer.get("log_every_n_steps")
    if isinstance(every, int) and every < 0:
        raise OptionError(f"trainer.log_every_n_steps must be an integer of at least 0, got {every}")
