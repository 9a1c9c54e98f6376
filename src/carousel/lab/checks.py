"""The one check of all options, before any work starts: their names, their types and their values."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from torch.utils.tensorboard import SummaryWriter

from . import allowed
from .dashboard import TensorBoard
from .options import FINDERS, OptionError, first_line, option
from .tasks import custom

GROUPS = ("model", "task", "optimizer", "scheduler", "trainer")
NAMED = ("logger", "callbacks")
"""Groups whose members have names of their own."""
DISPENSABLE = ("scheduler", "experiment", *NAMED)
OWN = [name for name in allowed.OPTIONS if name.partition(".")[0] not in (*GROUPS, *NAMED)]
"""The options that are of no group."""
TOP = (*GROUPS, *NAMED, "experiment", "hydra", *dict.fromkeys(name.partition(".")[0] for name in OWN))
PARTICLES = {"_target_": str, "_partial_": bool, "_recursive_": bool, "_args_": list}
PARTICLES |= {"_convert_": Literal["none", "partial", "object", "all"]}
"""Hydra's own keys of what is to be made."""
HANDED_ON = {TensorBoard: SummaryWriter}
"""To whom a class hands on what it does not take itself."""


def check(cfg: DictConfig, overrides: dict[str, str]) -> None:
    """Refuse what can be told to be wrong from the configuration alone, options without effect among it. What else the
    constructors refuse is said when `app.build` calls them.

    Raises:
        OptionError: naming the option.
    """
    try:
        _check(cfg, overrides)
    except MissingMandatoryValue as error:
        raise OptionError(f"{error.full_key} must be given") from error
    except OmegaConfBaseException as error:  # an interpolation
        raise OptionError(": ".join(filter(None, (error.full_key, first_line(error))))) from error


def _check(cfg: DictConfig, overrides: dict[str, str]) -> None:
    for key, value in overrides.items():
        if value.replace(" ", "") == "{}":
            raise OptionError(f"{key}={{}} changes nothing: it is merged with what is there; to go without, ~{key}")
    for key in TOP:
        if key not in cfg and key not in (*DISPENSABLE, "hydra"):
            raise OptionError(f"~{key}: there is no run without")
    for key in GROUPS:
        if not isinstance(cfg.get(key), DictConfig) and (key not in DISPENSABLE or cfg.get(key) is not None):
            raise OptionError(f"{key} must be the name of a file in conf/{key}, got {shown(cfg[key])}")
        if key == "trainer" and "max_steps" not in cfg.trainer:
            raise OptionError("~trainer.max_steps: there is no run without")
        check_node(key, cfg.get(key))
    for group in NAMED:
        if not isinstance(members := cfg.get(group) or {}, DictConfig | dict):
            raise OptionError(f"{group} must be the name of a file in conf/{group}, got {shown(members)}")
        for key, node in members.items():
            if node is not None and (not isinstance(node, DictConfig) or "_target_" not in node):
                raise OptionError(f"{group}.{key} must be null or name a class in _target_, got {shown(node)}")
            check_node(f"{group}.{key}", node)
    others = {key: value for key, value in cfg.items() if key not in (*GROUPS, *NAMED, "experiment", "hydra")}
    given = dict(_leaves(others))
    for name, value in given.items():
        if name in OWN:
            check_value(name, value)
        elif parts := [own for own in OWN if own.startswith(f"{name}.")]:
            raise OptionError(f"{name} has the options {', '.join(parts)}, got {shown(value)}")
        elif not _is_referred_to(name, cfg):
            there = [own for own in OWN if own.startswith(f"{name.partition('.')[0]}.")] or TOP
            raise OptionError(f"{name}: no such option{allowed.nearest(name, there)}; allowed here: {', '.join(there)}")
    if missing := [name for name in OWN if name not in given]:
        raise OptionError(f"~{missing[0]}: there is no run without")
    if cfg.trainer.get("limit_train_batches") == 0 and cfg.trainer.get("max_steps") != 0:
        raise OptionError("trainer.limit_train_batches must be over 0, got 0; for no training, trainer.max_steps=0")


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_referred_to(name: str, cfg: DictConfig) -> bool:
    """Whether another option has this one of the user's own in an interpolation."""
    key = re.escape(name.partition(".")[0])
    return re.search(rf"\$\{{[^}}]*\b{key}\b", OmegaConf.to_yaml(cfg)) is not None


def check_node(name: str, node: Any) -> None:
    """Refuse what the constructors of a node, and of the nodes in it, do not take: by its name, its type, or its value.
    Signatures that do not say are believed.

    Raises:
        OptionError: naming the option.
    """
    if isinstance(node, ListConfig):
        for k, part in enumerate(node):
            check_node(f"{name}.{k}", part)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return
    known, is_closed = _parameters(name, node)
    items: Any = node.items()
    for key, value in items:
        if key in PARTICLES:
            check_value(f"{name}.{key}", value, allowed.read(PARTICLES[key]))
            continue
        if key not in known and is_closed:
            near = allowed.nearest(key, known)
            raise OptionError(f"{name}.{key}: no such option{near}; allowed here: {', '.join(known)}")
        check_value(f"{name}.{key}", value, known.get(key))
        check_node(f"{name}.{key}", value)


def _parameters(name: str, node: DictConfig) -> tuple[dict[str, allowed.Allowed | None], bool]:
    """As `allowed.parameters` says, of what a node makes: with a task of one's own, and the cell of a layer."""
    target = _found(f"{name}._target_", node.get("_target_"))
    if target is custom:
        return allowed.parameters(target, _found(f"{name}.path", node.path))
    cell = node.get("cell")
    if isinstance(cell, DictConfig) and cell.get("_target_") in FINDERS:
        return allowed.parameters(target, _found(f"{name}.cell.path", cell.path))
    return allowed.parameters(target, HANDED_ON.get(target))


def parameters(name: str, node: DictConfig) -> list[str]:
    """The names of what a node's constructor takes; none where that cannot be told."""
    try:
        return list(_parameters(name, node)[0])
    except (OptionError, OmegaConfBaseException):
        return []


def _found(name: str, path: object) -> Any:
    if not isinstance(path, str):
        raise OptionError(f"{name} must be the dotted name of a class or function, got {shown(path)}")
    with option(name):
        found = get_object(path)
    if not callable(found):
        raise OptionError(f"{name} must be the dotted name of a class or function, got {path}")
    return found


def check_value(name: str, value: Any, of_signature: allowed.Allowed | None = None) -> None:
    right = allowed.of_option(name, of_signature)
    if right is not None and not right.has(value):
        raise OptionError(f"{name} must be {right.told_of(value)}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value as it is typed."""
    return {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else repr(value)
