"""What a search asks of Optuna, which is the extra `search`: the study, what an option may be, and trials."""

import math
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, GridSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from . import records
from .folders import ENDED
from .options import OptionError, first_line, make

PATIENCE = 60
"""Seconds to wait while another process writes to SQLite."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(hydra: DictConfig, direction: Any = None) -> Study:
    """The study of a search, from its `hydra` configuration; a new one if there is none.

    Raises:
        OptionError: the pruner or the storage cannot be used.
    """
    node = hydra.sweeper
    url = node.storage or f"sqlite:///{Path(hydra.sweep.dir).absolute()}/study.db"
    waiting = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {}
    pruner = node.pruner or OmegaConf.create({"_target_": "optuna.pruners.NopPruner"})
    pruner = make("hydra.sweeper.pruner", pruner, optuna.pruners.BasePruner)
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=waiting)
        return optuna.create_study(
            storage=storage, study_name=node.study, direction=direction, pruner=pruner, load_if_exists=True
        )
    except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, ValueError, OSError) as error:
        raise OptionError(f"hydra.sweeper.storage={url}: {first_line(error)}") from error


def values(override: Override) -> BaseDistribution:
    """The values that an option may take.

    Raises:
        OptionError: there are none, or they make no sense; or it is a seed, of which the luckiest would be found.
    """
    if override.key_or_group in ("seed", "data_seed"):
        raise OptionError(
            f"{override.key_or_group}: a search would find the luckiest; search with one, and try the best with "
            "others: --config-name best"
        )
    try:
        if override.is_choice_sweep():
            return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
        value: Any = override.value()
        if override.is_range_sweep():
            found = sorted(value.range()) or [0, -1]
            low, high, step = found[0], found[-1], abs(value.step)
        else:
            low, high, step = value.start, value.end, None
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, "log" in value.tags, step or 1)
        return FloatDistribution(low, high, "log" in value.tags, step)
    except ValueError as error:
        raise OptionError(f"{override.input_line}: {error}") from error


def first(found: Any) -> Any:
    """One of the values."""
    return found.choices[0] if isinstance(found, CategoricalDistribution) else found.low


def check_same(study: Study, asked: list[str], folder: Path) -> None:
    """That the study is of what is asked for now, for results of anything else would be taken for results of this.

    Raises:
        OptionError: it is of something else.
    """
    before = study.user_attrs.get("asked")
    if before is None:
        study.set_user_attr("asked", asked)
    elif sorted(before) != sorted(asked):
        was, now = (" ".join(x for x in some if x not in others) for some, others in ((before, asked), (asked, before)))
        raise OptionError(
            f"hydra.sweep.dir: {folder} was searched with {was or 'less'}, not {now or 'without'}; choose another "
            "folder"
        )


def begun(study: Study, node: DictConfig, space: dict[str, Any]) -> list[Trial | FrozenTrial]:
    """The trials that there are, each with all its options, also where the search was killed while they were drawn."""
    return [
        known if known.state.is_finished() else _suggest(study, node, space, known)
        for known in study.get_trials(deepcopy=False)
    ]


def draw(study: Study, node: DictConfig, space: dict[str, Any], count: int) -> list[Trial | FrozenTrial]:
    """New trials, as many as that or as are left."""
    left = node.n_trials - len(study.get_trials(deepcopy=False))
    return [_suggest(study, node, space) for _ in range(min(count, left))]


def _suggest(study: Study, node: DictConfig, space: dict[str, Any], known: FrozenTrial | None = None) -> Trial:
    """A trial, a new one if it is not `known`, with a value for each option that is searched. Each is drawn by a
    sampler of its own, with a seed of its own: a search that goes on draws what it would have drawn."""
    number = known.number if known else len(study.get_trials(deepcopy=False))
    seed = {} if "seed" in node.sampler else {"seed": node.seed + number}
    study.sampler = make("hydra.sweeper.sampler", node.sampler, BaseSampler, **seed)
    if isinstance(study.sampler, BruteForceSampler | GridSampler):
        raise OptionError("hydra.sweeper.sampler: for all of a grid, hydra/sweeper=grids")
    trial = Trial(study, known._trial_id) if known else study.ask()
    try:
        for key, found in space.items():
            if isinstance(found, CategoricalDistribution):
                trial.suggest_categorical(key, found.choices)
            else:
                suggest = trial.suggest_int if isinstance(found, IntDistribution) else trial.suggest_float
                suggest(key, found.low, found.high, step=found.step, log=found.log)
    except ModuleNotFoundError as error:  # some samplers need more than Optuna does
        raise OptionError(f"hydra.sweeper.sampler: {error}") from error
    return trial


def tell(study: Study, number: int, folder: Path, objective: str) -> None:
    """What came of a trial, from the record of its run. One that failed stays as it is: the same command tries it
    again. One that diverged is as one that was given up, and has no value."""
    try:
        record: dict[str, Any] = records.read_record(folder)
    except (FileNotFoundError, records.Unreadable):
        return
    value = record["metrics"].get(objective, math.nan)
    if record["status"] == "finished" and math.isfinite(value):
        study.tell(number, value, skip_if_finished=True)
    elif record["status"] in ENDED:
        study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)


def best(study: Study) -> FrozenTrial | None:
    """The best trial, if one has come to its end."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if done else None


def trial(hydra: DictConfig) -> Trial:
    """The trial of a run, which has its number, to report to."""
    study = open_study(hydra)
    return Trial(study, study.get_trials(deepcopy=False)[hydra.job.num]._trial_id)
