"""Models from their configuration, and trained ones from a run's folder."""

import bisect
import functools
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from ..layers import from_torch
from .model import SequenceModel
from .module import SequenceModule
from .options import FINDERS, OptionError, first_line, make, option
from .records import names, read_record
from .tasks import Task

CHECKPOINTS = "checkpoints"
PARTS = ("task", "model", "encoder", "head")
"""Of a configuration: what makes a model."""
EMBEDDED = 128
"""Over so many symbols the encoder is by default an embedding, of so many features, and one-hot up to them."""


@functools.cache
def _longest(task: str) -> int:
    return instantiate(OmegaConf.create(task)).longest()


def longest(task: DictConfig) -> int:
    """The number of steps of a task's longest sequence, from its configuration."""
    return task["seq_len"] if "seq_len" in task else _longest(OmegaConf.to_yaml(task, resolve=True))


def units(parameters: int, *, _root_: DictConfig) -> int:
    """The largest `model.hidden_size` with which a model has at most so many parameters, encoder and head included:
    what cells are compared by at equal parameters.

    Raises:
        OptionError: it is not a number of them, the smallest model has more, or there is a `model.proj_size`.
    """
    if type(parameters) is not int or parameters < 1:
        raise OptionError(f"model.hidden_size: ${{units:N}} takes an integer of at least 1, got {parameters}")
    cfg = _root_.copy()
    if cfg.model.get("proj_size"):
        raise OptionError("model.hidden_size: ${units:N} is not for a model with model.proj_size; give both as numbers")
    heads = cfg.model.get("heads")  # which divide the units
    step = heads if type(heads) is int and heads > 0 else 1
    with open_dict(cfg.model):
        cfg.model.hidden_size = step
    parts = {part: OmegaConf.to_container(cfg[part], resolve=True) for part in PARTS}  # of what stands elsewhere, too
    return step * _units(parameters, OmegaConf.to_yaml(OmegaConf.create(parts)))


@functools.cache
def _units(parameters: int, config: str) -> int:
    """How many times the size that is in a configuration."""
    cfg: Any = OmegaConf.create(config)
    task, one = make("task", cfg.task, Task), cfg.model.hidden_size

    def is_more(size: int) -> bool:
        cfg.model.hidden_size = size * one
        return sum(p.numel() for p in build_model(cfg, task).parameters()) > parameters

    with torch.random.fork_rng(devices=[]):
        try:
            too_few = is_more(1)
        except OptionError:
            return 1  # whoever makes the model says what is wrong with it
        if too_few:
            raise OptionError(f"model.hidden_size: ${{units:{parameters}}} is less than the smallest model has")
        most = 1
        while not is_more(2 * most):
            most *= 2
        return most - 1 + bisect.bisect_left(range(most, 2 * most + 1), True, key=is_more)


OmegaConf.register_new_resolver("longest", longest, replace=True)
OmegaConf.register_new_resolver("units", units, replace=True)


def build_model(cfg: DictConfig, task: Task) -> SequenceModel:
    """The model of a configuration: encoder, recurrent layer and head.

    Raises:
        OptionError: an option has a value that it cannot have, or no effect.
    """
    size = cfg.encoder.size
    if size == "auto":
        size = EMBEDDED if task.symbols and task.input_size > EMBEDDED else None
    elif size is not None and not task.symbols:
        raise OptionError(f"encoder.size is for tasks of symbols; this one has vectors of {task.input_size} features")
    layer, given = cfg.model.copy(), {"input_size": size or task.input_size, "batch_first": True}
    if isinstance(layer.get("dtype"), str):
        with option("model.dtype"), open_dict(layer):
            given["dtype"] = getattr(torch, layer.pop("dtype"))
    recurrent = make("model", layer, **given)
    with option("model"):
        from_torch(recurrent)  # what the measures need of it
    try:
        return SequenceModel(recurrent, task, size, cfg.encoder.dropout, cfg.head.dropout, cfg.head.tied)
    except ValueError as error:  # which names the option
        raise OptionError(str(error)) from error


def settle(threads: int) -> None:
    """Let torch calculate as it does in a run, which makes the same numbers to the last digit, and no slower ones:
    vanishing gradients end as denormal numbers, with which x86 processors take several times as long."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def weights(checkpoint: str | Path) -> dict[str, Tensor]:
    """The parameters and buffers in a checkpoint; nothing but tensors and plain values is read from it."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]


def _named(node: object, key: str = "") -> Iterator[tuple[str, str]]:
    """What a configuration names to be imported, each with its option.

    Raises:
        PermissionError: it may name more, in a way that no record has.
    """
    if isinstance(node, str) and "${" in node:
        raise PermissionError(f"{key} is an interpolation, which no record of a run has: {node}")
    if isinstance(node, list):
        node = {str(k): part for k, part in enumerate(node)}
    if isinstance(node, dict):
        finds = node.get("_target_") in FINDERS
        if "_args_" in node:
            raise PermissionError(f"{key} has _args_, which no record of a run has")
        for name, part in node.items():
            where = f"{key}.{name}".lstrip(".")
            if name == "_target_" or (name == "path" and finds):
                yield where, str(part)
            else:
                yield from _named(part, where)


def _is_ours(name: str) -> bool:
    """Whether it is a class that Carousel or torch.nn defines."""
    if not name.startswith(("carousel.", "torch.nn.")):
        return False
    try:
        found = get_object(name)
    except (ImportError, ValueError):
        return False
    return isinstance(found, type) and found.__module__.startswith(("carousel.", "torch.nn."))


def load(run: str | Path, checkpoint: str | None = None, trust: Iterable[str] = ()) -> SequenceModule:
    """A trained model, from the folder of its run.

    Args:
        run: the folder, outputs/runs/<one> or one in a sweep.
        checkpoint: "best", by validation loss, or "last"; None: the one whose test scores the run has recorded.
        trust: the paths of classes of one's own, such as "my_cells.MyCell", that may be imported: what is neither
            here nor Carousel's or torch.nn's is refused.

    Returns:
        The module in eval mode, on the CPU: `module(input)` predicts; `module.task` and `module.configuration`
        (flat, as in the run's record) are what it was trained on.

    Raises:
        FileNotFoundError: there is no run, or no such checkpoint.
        PermissionError: its configuration names a class that is not trusted.
        ValueError: record or checkpoint are damaged, or of a time before models could be loaded.
    """
    run = Path(run)
    flat = read_record(run)["config"]
    cfg = OmegaConf.create()
    for key, value in flat.items():
        if key.split(".")[0] in PARTS and not key.endswith("._code_"):
            OmegaConf.update(cfg, key, value, force_add=True)
    if missing := [part for part in PARTS if part not in cfg]:
        raise ValueError(f"{run}: its record is of a time before models could be loaded; it has no {names(missing)}")
    for key, named in _named(OmegaConf.to_container(cfg, resolve=False)):
        if named not in (*FINDERS, *trust) and not _is_ours(named):
            raise PermissionError(f"{run}: {key} is {named}, which load(..., trust=[{named!r}]) would import")
    path = run / CHECKPOINTS / f"{checkpoint or flat['tested']}.ckpt"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        task = make("task", cfg.task, Task)
        if (fitted := saved.get("task")) is not None:
            task.recall(fitted)
        module = SequenceModule(build_model(cfg, task), task)
        module.to(saved["state_dict"]["model.head.weight"].dtype)  # as the precision of its training has it
        module.load_state_dict(saved["state_dict"])
    except (OptionError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} does not fit: {first_line(error)}") from error
    module.configuration = flat
    return module.eval()
