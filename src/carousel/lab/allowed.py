"""What an option may be: what the signature of its class or function says, and what `OPTIONS` and `RANGES` do."""

# Hints are values here.
# pyright: reportOperatorIssue=false
import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from omegaconf import DictConfig, ListConfig

from ..cells import Cell
from ..layer import Recurrent


class Range(NamedTuple):
    """Of numbers. None of them is infinite or nan."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    """Whether the least itself is left out."""
    below: bool = False
    """Whether the most itself is."""

    def has(self, x: float) -> bool:
        low, high = self.least < x if self.above else self.least <= x, x < self.most if self.below else x <= self.most
        return low and high and math.isfinite(x)

    def __str__(self) -> str:
        low = f" {'over' if self.above else 'of at least'} {self.least}" if self.least > -math.inf else ""
        high = f" {'under' if self.below else 'at most'} {self.most}" if self.most < math.inf else ""
        return " and".join(filter(None, (low, high)))


ANY, NOT_NEGATIVE, POSITIVE, SIZE = Range(), Range(0), Range(0, above=True), Range(1)
SHARE, PART = Range(0, 1), Range(0, 1, below=True)
HUGE = 2**31
"""Whole numbers are smaller, where no range says otherwise: one that is as large is a slip, or no memory holds it."""

Seed = Annotated[int, Range(0, 2**32, below=True)]
Size = Annotated[int, SIZE]
Dropout = Annotated[float, PART]
OPTIONS: dict[str, Any] = {
    "seed": Seed,
    "data_seed": Seed,
    "batch_size": Size,
    "train_size": Size | None,
    "eval_size": Size | None,
    "encoder.size": Size | Literal["auto"] | None,
    "encoder.dropout": Dropout,
    "head.dropout": Dropout,
    "head.tied": bool,
    "tested": Literal["last", "best"],
    "threads": Annotated[int, Range(1, 1024)],
    # What signatures leave open.
    "model.dtype": Literal["float32", "float64", "bfloat16", "float16"] | None,
    "model.nonlinearity": Literal["tanh", "relu"],
    "scheduler.max_lr": Annotated[float, POSITIVE],  # no list: there is one group of parameters
    "scheduler.min_lr": Annotated[float, NOT_NEGATIVE],
    "scheduler.base_momentum": Annotated[float, PART],
    "scheduler.max_momentum": Annotated[float, PART],
    "trainer.val_check_interval": Annotated[float, POSITIVE] | None,
    "callbacks.mode": Literal["min", "max"],
}
"""Options that no constructor takes, and such of which a constructor's signature says too little."""

RANGES = {
    "model": dict.fromkeys(("hidden_size", "num_layers", "heads"), SIZE)
    | dict.fromkeys(("dropout", "gates", "carousel", "r_min", "r_max"), SHARE)
    | {"dt": POSITIVE, "bound": POSITIVE, "proj_size": NOT_NEGATIVE, "leak": NOT_NEGATIVE},
    "optimizer": dict.fromkeys(("lr", "weight_decay", "eps"), NOT_NEGATIVE)
    | dict.fromkeys(("momentum", "alpha", "betas"), PART),
    "scheduler": dict.fromkeys(("T_max", "total_steps", "epochs", "steps_per_epoch", "step_size", "total_iters"), SIZE)
    | dict.fromkeys(("gamma", "div_factor", "final_div_factor"), POSITIVE)
    | dict.fromkeys(("eta_min", "patience", "threshold", "cooldown", "eps"), NOT_NEGATIVE)
    | {"factor": Range(0, 1, above=True, below=True), "start_factor": Range(0, 1, above=True)}
    | {"pct_start": SHARE, "end_factor": SHARE},
    "trainer": dict.fromkeys(("check_val_every_n_epoch", "accumulate_grad_batches"), SIZE)
    | dict.fromkeys(("gradient_clip_val", "limit_val_batches", "limit_test_batches"), POSITIVE)
    | dict.fromkeys(("max_steps", "limit_train_batches", "log_every_n_steps", "min_steps"), NOT_NEGATIVE),
    "callbacks": dict.fromkeys(("every_n_steps", "num_sequences", "up_to"), SIZE)
    | dict.fromkeys(("patience", "min_delta", "every_seconds", "predict"), NOT_NEGATIVE),
    "logger": {"flush_logs_every_n_steps": SIZE},
}
"""Of what constructors do not refuse, or not in words that name it, by group and the last part of the option's name."""

WORDS = {type(None): "null", bool: "true or false", str: "a string", list: "a list", dict: "a mapping"}


class Allowed(NamedTuple):
    """What one option may be."""

    kinds: frozenset[type] = frozenset()
    """Of NoneType, bool, int, float, str, list and dict."""
    choices: tuple = ()
    objects: bool = False
    """Whether it may be what is made of a `_target_`."""
    range: Range = ANY
    """Of numbers, also of those in a list."""

    def __or__(self, other: "Allowed") -> "Allowed":
        kinds, choices = self.kinds | other.kinds, (*self.choices, *other.choices)
        return Allowed(kinds, choices, self.objects or other.objects, other.range if self.range == ANY else self.range)

    def has(self, value: Any) -> bool:
        if isinstance(value, DictConfig):
            return dict in self.kinds or (self.objects and "_target_" in value)
        if isinstance(value, ListConfig):
            return list in self.kinds and all(type(x) not in (int, float) or self._in_range(x) for x in value)
        if any(type(value) is type(choice) and value == choice for choice in self.choices):
            return True
        if (type(value) is int and float in self.kinds) or type(value) in self.kinds:
            return type(value) not in (int, float) or self._in_range(value)
        return False

    def _in_range(self, x: float) -> bool:
        return self.range.has(x) and (type(x) is float or self.range.most < math.inf or abs(x) < HUGE)

    def told_of(self, value: Any) -> "Allowed":
        """With the bound of whole numbers in its words, if that is what a value breaks."""
        if type(value) is int and value >= HUGE and self.range.most == math.inf:
            return self._replace(range=self.range._replace(most=HUGE, below=True))
        return self

    def __str__(self) -> str:
        number = "a number" if float in self.kinds else "an integer" if int in self.kinds else ""
        words = [str(choice) for choice in self.choices] + [f"{number}{self.range}"] * bool(number)
        words += [word for kind, word in WORDS.items() if kind in self.kinds and kind is not type(None)]
        words += ["what a _target_ makes"] * (self.objects and not words) + ["null"] * (type(None) in self.kinds)
        return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def read(hint: Any) -> Allowed | None:
    """What a hint allows; None: anything."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, typing.TypeVar):
        return None
    if origin is Annotated:
        whole: Any = read(parts[0])
        return whole._replace(range=parts[1])
    if origin in (typing.Union, types.UnionType):
        read_parts: list[Any] = [read(part) for part in parts]
        return None if None in read_parts else functools.reduce(Allowed.__or__, read_parts)
    if origin is Literal:
        return Allowed(choices=parts)
    if hint is None or hint in (bool, int, float, str, type(None)):
        return Allowed(frozenset({hint or type(None)}))
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Path):
        return Allowed(frozenset({str}))
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return Allowed(frozenset({dict}))
    if isinstance(kind, type) and issubclass(kind, Iterable) and kind.__module__ in ("builtins", "collections.abc"):
        return Allowed(frozenset({list}))
    return Allowed(objects=True)


@functools.cache
def parameters(target: Any, hands_on_to: Any = None) -> tuple[dict[str, Allowed | None], bool]:
    """What a class or function takes by name, with what it hands on to another, as a layer does to its cell; and
    whether all else is refused."""
    found: dict[str, Allowed | None] = {}
    is_closed = False
    for part in filter(None, (hands_on_to, target)):
        mine, is_closed = _own(part)
        found |= mine
    return found, is_closed if hands_on_to is None else _own(hands_on_to)[1]


def _own(target: Any) -> tuple[dict[str, Allowed | None], bool]:
    """As far as the signatures say; what has no hint is of its default value's type."""
    found: dict[str, Allowed | None] = {}
    is_ours = isinstance(target, type) and issubclass(target, Recurrent | Cell)
    for owner in target.__mro__[:-1] if isinstance(target, type) else (target,):
        if is_ours and owner.__module__.startswith("torch."):
            break
        function = vars(owner).get("__init__") if isinstance(owner, type) else owner
        if function is None:
            continue
        try:
            signature, hints = inspect.signature(function), typing.get_type_hints(function, include_extras=True)
        except (TypeError, ValueError, NameError):
            return found, False
        parameters = list(signature.parameters.values())
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and parameter.name != "self":
                found.setdefault(parameter.name, _of(parameter, hints.get(parameter.name)))
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            return found, True
    return found, is_ours


def _of(parameter: inspect.Parameter, hint: Any) -> Allowed | None:
    default = parameter.default
    if hint is None:
        return read(type(default)) if type(default) in (bool, int, float) else None
    allowed = read(hint)
    return allowed | read(None) if allowed is not None and default is None else allowed


@functools.cache
def of_option(name: str, allowed: Allowed | None) -> Allowed | None:
    """What the option may be that has this full name, where its constructor's signature says `allowed`."""
    group, _, rest = name.partition(".")
    last = rest.rpartition(".")[2]
    for key in (name, f"{group}.{last}"):
        if key in OPTIONS:
            return read(OPTIONS[key])
    more = RANGES.get(group, {}).get(last)
    return allowed._replace(range=more) if allowed is not None and more else allowed


def nearest(name: str, known: Iterable[str]) -> str:
    """A question, if one of the names is much like this one."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
