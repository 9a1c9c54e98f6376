"""The sweeper for a union of grids."""

import pytest
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from sweeps import BasicSweeper, Grids, batches

from hydra_plugins.grids import constant

GRIDS = [{"model": "rnn", "gain": "0.6,0.8"}, {"model": "lstm", "value": "0,1"}]
UNION = ["model=rnn gain=0.6", "model=rnn gain=0.8", "model=lstm value=0", "model=lstm value=1"]


def runs(grids, *arguments, params=None):
    (batch,) = batches(Grids(None, params, grids), *arguments)
    return [" ".join(run) for run in batch]


def test_the_products_are_put_one_after_the_other():
    assert runs(GRIDS) == UNION


def test_params_are_in_every_grid_unless_it_says_otherwise():
    grids = [{"model": "rnn"}, {"model": "lstm", "steps": "9"}]
    seen = runs(grids, params={"seed": "0,1", "steps": "5"})
    assert seen == [f"seed={s} steps={n} model={m}" for m, n in (("rnn", 5), ("lstm", 9)) for s in (0, 1)]


def test_a_key_of_some_grids_on_the_command_line_is_of_these_alone():
    assert runs(GRIDS, "gain=0.5") == ["model=rnn gain=0.5", *UNION[2:]]
    assert runs(GRIDS, "value=2,3") == [*UNION[:2], "model=lstm value=2", "model=lstm value=3"]


def test_any_other_key_on_the_command_line_is_of_all():
    assert runs(GRIDS, "+x=1") == [f"{run} +x=1" for run in UNION]
    assert runs([{"a": "1"}, {"b": "2"}], "a=5", params={"a": "0"}) == ["a=5", "a=5 b=2"]


def test_a_key_with_two_plusses_is_the_same_key():
    assert runs([{"a": "1,2"}], "++seed=5", params={"seed": "0,1"}) == ["++seed=5 a=1", "++seed=5 a=2"]
    assert runs([], "++seed=5", params={"seed": "0,1"}) == ["++seed=5"]


def test_an_interpolation_is_each_runs_own(monkeypatch):
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: None)
    job = {"job": {"config": {"override_dirname": {"exclude_keys": []}}}}
    config = OmegaConf.create({"a": 1, "hydra": {"sweeper": {"grids": [{"b": "${a}"}]}} | job})
    sweeper = Grids(None, None, config.hydra.sweeper.grids)
    sweeper.setup(hydra_context=None, task_function=None, config=config)
    assert batches(sweeper) == [[[r"b=$\{a\}"]]]  # as Hydra escapes it, to read it again


def test_what_two_grids_name_is_run_once():
    assert runs([{"a": "1,2"}, {"a": "2,3"}]) == ["a=1", "a=2", "a=3"]
    assert runs([{"a": "1", "b": "2"}, {"b": "2", "a": "1"}]) == ["a=1 b=2"]
    assert runs(GRIDS, "model=gru", "gain=1", "value=1,2") == [
        "model=gru gain=1",
        "model=gru value=1",
        "model=gru value=2",
    ]


@pytest.mark.parametrize("size", [None, 1, 3, 4])
def test_the_union_is_one_batch_or_as_many_as_are_asked_for(size):
    found = batches(Grids(size, None, GRIDS))
    assert [len(batch) for batch in found] == {None: [4], 1: [1] * 4, 3: [3, 1], 4: [4]}[size]
    assert [" ".join(run) for batch in found for run in batch] == UNION


@pytest.mark.parametrize("grids", [None, []])
@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("params", [None, {"a": "1,1", "+b": "range(3)"}])
@pytest.mark.parametrize("arguments", [(), ("a=4,5",), ("c=choice(x,y)", "~d")])
def test_without_grids_it_is_the_basic_sweeper(grids, size, params, arguments):
    assert batches(Grids(size, params, grids), *arguments) == batches(BasicSweeper(size, params), *arguments)


@pytest.mark.parametrize("grids", [5, "a", {"a": 1}, [1], [{"a": [1, 2]}], [{"a": {"b": 1}}], [{"a": None}]])
def test_anything_but_a_list_of_mappings_is_refused(grids):
    with pytest.raises(SystemExit) as error:
        Grids(None, None, grids)
    line = str(error.value)
    assert line.startswith("error: hydra.sweeper.grids must be a list of mappings from keys to their values, like ")
    assert line.endswith(f", got {grids}")


@pytest.mark.parametrize("size", [0, -1, "abc", 1.5])
def test_batches_hold_at_least_one_run(size):
    with pytest.raises(SystemExit, match=r"hydra.sweeper.max_batch_size must be null or an integer of at least 1"):
        Grids(size, None, None)


@pytest.mark.parametrize("grids", [None, GRIDS])
@pytest.mark.parametrize("size", [None, 2])
def test_a_sweep_over_no_value_is_refused(grids, size):
    with pytest.raises(SystemExit, match="error: this sweep has no run"):
        batches(Grids(size, None, grids), "seed=range(0,0)")


def test_what_all_runs_share_is_told_from_what_varies():
    runs = [["++steps=5", "a=1", "~x=null"], ["++steps=5", "a=2", "~x=null"], ["++steps=5", "b=1", "~x=null"]]
    assert constant(runs) == ["steps", "x"]
    assert constant(runs[:1]) == []
