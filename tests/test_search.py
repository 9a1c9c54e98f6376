"""A search for the options that validate best goes on where it was cut off, gives up what is hopeless, and says what is
best in a file that runs."""

import math
import shlex
import shutil
import signal
import sys

import optuna
import pytest
from commands import HANGS, call
from hydra.core.override_parser.overrides_parser import OverridesParser
from made_up import BARE
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweeps import Search
from test_cli import TINY, records, start, wait_until
from torchmetrics import MeanMetric

from carousel import lab
from carousel.lab import search, study
from carousel.lab.options import OptionError
from carousel.lab.records import write_record
from carousel.lab.tasks import Adding

SearchConf = Search.sweep.__globals__["SearchConf"]
ASKED = [
    *("-m", "hydra/sweeper=optuna", "model=rnn", *TINY, "hydra.sweep.dir=sweep", "hydra.sweeper.n_trials=4"),
    *("optimizer.lr=0.03,1e-9", "head.dropout=interval(0, 0.1)", "callbacks.progress.every_seconds=0"),
    *("+hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.max_batch_size=2", "hydra.sweeper.seed=24"),
    *("~callbacks.charts", *(f"callbacks.{name}=null" for name in ("gradient_flow", "gates", "examples"))),
]


def trials(folder):
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")
    return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a search that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = call(folder, "train.py", *ASKED)
    assert done.returncode == 0, done.stderr
    assert "search: 4 of 4 trials, the best so far with val/loss 0." in done.stderr
    assert "\nbest:        sweep/best.yaml\n" in done.stdout
    return folder


def test_what_is_hopeless_is_given_up_and_the_report_says_so(whole):
    found = records(whole / "sweep").values()
    assert {r["status"]: r["config"]["optimizer.lr"] for r in found} == {"finished": 0.03, "pruned": 1e-9}
    assert {r["status"]: r["steps"] for r in found} == {"finished": 12, "pruned": 6}
    (said,) = {r["error"].split(", with")[0] for r in found if r["status"] == "pruned"}
    assert said == "given up at training step 6"
    given_up = sum(r["status"] == "pruned" for r in found)
    assert [state for _, state, *_ in trials(whole / "sweep")].count("PRUNED") == given_up
    best = min(r["metrics"]["val/loss"] for r in found if r["status"] == "finished")
    for report in ("report.md", "report.html"):
        text = (whole / "sweep" / report).read_text()
        assert f"for doing worse than others had by then: {given_up} of 4" in text
        assert f"{best:.4g}" in text
        assert "best.yaml" in text


def test_the_best_trial_is_a_file_that_runs_to_the_same_numbers(whole, tmp_path):
    folder = whole / "sweep"
    line, *_ = (folder / "best.yaml").read_text().splitlines()
    arguments = shlex.split(line.partition("Run it: carousel-train ")[2])
    assert arguments == ["--config-dir", "sweep", "--config-name", "best", "~callbacks.charts"]
    arguments[1] = folder
    assert call(tmp_path, "train.py", *arguments, "hydra.run.dir=again").returncode == 0
    (again,) = records(tmp_path / "again").values()
    finished = [r for r in records(folder).values() if r["status"] == "finished"]
    best = min(finished, key=lambda r: r["metrics"]["val/loss"])
    for part in ("metrics", "config", "model", "task"):
        assert again[part] == best[part]


def test_a_search_that_is_killed_goes_on_as_if_nothing_had_been(whole, tmp_path):
    sweep = tmp_path / "sweep"
    process = start(tmp_path, *ASKED)
    wait_until(lambda: len(list(sweep.glob("*/output.log"))) > 2)  # in the second batch
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANGS)
    done = call(tmp_path, "train.py", *ASKED)
    assert done.returncode == 0, done.stderr
    assert trials(sweep) == trials(whole / "sweep")
    assert records(sweep).keys() == records(whole / "sweep").keys()
    for name, record in records(sweep).items():
        assert record["metrics"] == records(whole / "sweep")[name]["metrics"]
    assert (sweep / "best.yaml").read_text() == (whole / "sweep" / "best.yaml").read_text()


def test_the_same_command_adds_nothing_and_another_one_is_refused(whole, tmp_path):
    shutil.copytree(whole / "sweep", tmp_path / "sweep")
    before = trials(tmp_path / "sweep")
    again = call(tmp_path, "train.py", *ASKED)
    assert again.returncode == 0
    assert again.stderr.startswith("sweep: 0 runs, 2 at a time, in sweep (4 are there already)\n")
    other = call(tmp_path, "train.py", *ASKED, "eval_size=30")
    assert other.stderr == (
        "error: hydra.sweep.dir: sweep was searched with eval_size=20, not eval_size=30; choose another folder\n"
    )
    assert trials(tmp_path / "sweep") == before


@pytest.fixture
def node():
    return OmegaConf.merge(OmegaConf.structured(SearchConf), {"n_trials": 4, "seed": 7})


SPACE = {"a": FloatDistribution(0, 1), "b": IntDistribution(1, 9), "c": CategoricalDistribution(["x", "y"])}


def test_no_more_trials_are_drawn_than_were_asked_for(node):
    made = optuna.create_study()
    assert [len(study.draw(made, node, SPACE, 3)) for _ in range(3)] == [3, 1, 0]
    node.n_trials = 2
    assert study.draw(made, node, SPACE, 3) == []
    assert [trial.number for trial in study.begun(made, node, SPACE)] == [0, 1, 2, 3]


def test_trials_that_were_being_drawn_become_what_they_would_have_been(node):
    whole, killed = optuna.create_study(), optuna.create_study()
    expected = [trial.params for trial in study.draw(whole, node, SPACE, 3)]
    study.draw(killed, node, SPACE, 1)
    killed.ask()  # and not one of its values
    trials = study.begun(killed, node, SPACE) + study.draw(killed, node, SPACE, 1)
    assert [trial.params for trial in trials] == expected


@pytest.mark.parametrize(
    ("status", "loss", "state"),
    [
        ("finished", 0.5, "COMPLETE"),
        ("finished", math.nan, "PRUNED"),
        ("diverged", 0.5, "PRUNED"),
        ("pruned", 0.5, "PRUNED"),
        ("failed", 0.5, "RUNNING"),
        ("interrupted", 0.5, "RUNNING"),
        (None, None, "RUNNING"),
    ],
)
def test_what_ended_is_told_and_what_did_not_is_tried_again(tmp_path, status, loss, state):
    made = optuna.create_study()
    made.ask()
    if status:
        write_record(tmp_path, BARE | {"status": status, "metrics": {"val/loss": loss}})
    for _ in range(2):  # the second time when the search is taken up again
        study.tell(made, 0, tmp_path, "val/loss")
    assert made.trials[0].state.name == state
    assert made.trials[0].value == (0.5 if state == "COMPLETE" else None)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("model=lstm,gru,lstm", CategoricalDistribution(["lstm", "gru"])),
        ("x=choice(1,2.5,a)", CategoricalDistribution(["1", "2.5", "a"])),
        ("x=interval(1,2)", FloatDistribution(1, 2)),
        ("x=tag(log, interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("x=int(interval(1,20))", IntDistribution(1, 20)),
        ("x=tag(log, int(interval(1,20)))", IntDistribution(1, 20, log=True)),
        ("x=range(1,8,2)", IntDistribution(1, 7, step=2)),
        ("x=range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
    ],
)
def test_what_an_option_may_be(option, values):
    (override,) = OverridesParser.create().parse_overrides([option])
    assert study.values(override) == values


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("seed=1,2", "seed: a search would find the luckiest"),
        ("data_seed=range(3)", "data_seed: a search would find the luckiest"),
        ("optimizer.lr=interval(2,1)", "optimizer.lr=interval(2,1): `low <= high` must hold"),
        ("optimizer.lr=range(2,2)", "optimizer.lr=range(2,2): `low <= high` must hold"),
        ("optimizer.lr=tag(log,interval(0,1))", "optimizer.lr=tag(log,interval(0,1)): `low > 0` must hold"),
    ],
)
def test_what_cannot_be_searched_is_one_line(option, line):
    (override,) = OverridesParser.create().parse_overrides([option])
    with pytest.raises(SystemExit) as error:
        study.values(override)
    assert str(error.value).startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"n_trials": 0}, "n_trials must be at least 1, got 0"),
        ({"max_batch_size": -1}, "max_batch_size must be at least 1, got -1"),
        ({"sampler": 5}, "sampler must name a class in _target_, got 5"),
        ({"sampler": None}, "sampler must name a class in _target_, got None"),
        ({"pruner": 5}, "pruner must be null or name a class in _target_, got 5"),
    ],
)
def test_what_is_no_option_of_a_search_is_one_line(options, line):
    node = OmegaConf.structured(SearchConf)
    node.merge_with(options)
    with pytest.raises(SystemExit, match=f"^error: hydra.sweeper.{line}$"):
        Search(**node)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("hydra.sweeper.n_trials=2", "there is nothing to search: give an option several values, or an interval"),
        ("hydra.sweeper.objective=test/loss", "hydra.sweeper.objective must be one of val/loss, val/within_0.04, got"),
        ("hydra.sweeper.sampler._target_=optuna.Foo", "hydra.sweeper.sampler: Error loading 'optuna.Foo'"),
        ("hydra.sweeper.pruner._target_=optuna.Foo", "hydra.sweeper.pruner: Error loading 'optuna.Foo'"),
        ("hydra.sweeper.storage=sqlite:////proc/x", "hydra.sweeper.storage=sqlite:////proc/x: "),
    ],
)
def test_what_makes_no_search_is_one_line_and_no_run(tmp_path, options, line):
    lr = ["optimizer.lr=1,2"] * ("n_trials" not in options)
    done = call(tmp_path, "train.py", "-m", "hydra/sweeper=optuna", *lr, options, "hydra.sweep.dir=sweep")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1
    assert not records(tmp_path / "sweep")


def test_without_optuna_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "carousel.lab.study")
    monkeypatch.delattr(lab, "study")
    with pytest.raises(OptionError, match=r'hydra/sweeper=optuna needs optuna: pip install "torch-carousel\[search\]"'):
        search.optuna()


@pytest.mark.parametrize(
    ("objective", "given", "expected"),
    [
        ("val/loss", None, "minimize"),
        ("val/within_0.04", None, "maximize"),
        ("val/within_0.04", "minimize", "minimize"),
    ],
)
def test_the_better_way_is_the_metrics_own_unless_it_is_said(objective, given, expected):
    node = OmegaConf.create({"objective": objective, "direction": given})
    assert search.direction(node, Adding(10)) == expected


@pytest.mark.parametrize(
    ("objective", "given", "line"),
    [
        ("val/x", None, "hydra.sweeper.direction: say minimize or maximize, for val/x does not"),
        ("val/x", "up", "hydra.sweeper.direction must be null, minimize or maximize, got up"),
        ("val/y", None, "hydra.sweeper.objective must be one of val/loss, val/x, got val/y"),
    ],
)
def test_which_way_is_better_is_to_be_known(objective, given, line):
    class Silent(Adding):
        def metrics(self):
            return {"x": MeanMetric()}

    with pytest.raises(OptionError, match=f"^error: {line}$"):
        search.direction(OmegaConf.create({"objective": objective, "direction": given}), Silent(10))
