"""Whatever launcher brings the runs of a sweep to their machines, the numbers and the report are the same."""

import importlib.util
import re
import subprocess

import pandas as pd
import pytest
from commands import call
from hydra.errors import MissingConfigException
from test_cli import KILLED, TINY, records

from carousel.lab.cli import explain

SWEEP = ["-m", "model=rnn", "model._target_=carousel.RNN,broken.Dies", *TINY, "hydra.sweep.dir=sweep"]
TIMES = re.compile(r".*of computing.*|<td>[\d.]+</td>(?=<td><a href)")
PLUGINS = {name: f"hydra_plugins.hydra_{name}_launcher" for name in ("joblib", "ray", "submitit")}
NEEDS = {
    name: pytest.mark.skipif(not importlib.util.find_spec(module), reason=f"the extra {name} is not installed")
    for name, module in PLUGINS.items()
}


def answers(*command) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The sweep of our own launcher."""
    folder = tmp_path_factory.mktemp("ours")
    done = call(folder, "train.py", *SWEEP)
    assert done.returncode == 1, done.stderr
    return folder / "sweep"


@pytest.fixture
def cluster(monkeypatch):
    """A Ray of two nodes, each with one processor, and with processes of its own."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def same(cwd, ours, *options):
    """Run the sweep and compare it with `ours`."""
    done = call(cwd, "train.py", *SWEEP, *options)
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1] == "error: 1 of 2 runs failed"
    assert sorted(line.split(": ")[1].split()[0] for line in lines if line.startswith("run ")) == ["failed", "finished"]
    theirs = cwd / "sweep"
    errors = {r["config"]["model._target_"]: r["error"] for r in records(theirs).values()}
    assert errors == {"carousel.RNN": None, "broken.Dies": KILLED}
    for name in ("report.md", "report.html"):
        own, other = (TIMES.sub("", (sweep / name).read_text()) for sweep in (ours, theirs))
        assert own == other
    for name in ("results", "gradient_flow", "loss_curves", "measurements"):
        tables = [pd.read_csv(sweep / f"{name}.csv") for sweep in (ours, theirs)]
        own, other = (table.drop(columns=["wall_time_s", "pid"], errors="ignore") for table in tables)
        pd.testing.assert_frame_equal(own, other, check_exact=True)
    return done


def test_one_that_is_not_installed_is_named_with_its_extra():
    missing = MissingConfigException("", "hydra/launcher/submitit_slurm", ["basic", "side_by_side"])
    assert explain(missing) == (
        "hydra/launcher=submitit_slurm does not exist; allowed: basic, side_by_side; "
        'pip install "torch-carousel[submitit]"'
    )


@NEEDS["joblib"]
def test_joblib(tmp_path, ours):
    same(tmp_path, ours, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@NEEDS["submitit"]
def test_submitits_local_executor(tmp_path, ours):
    same(tmp_path, ours, "hydra/launcher=submitit_local")


@NEEDS["ray"]
def test_a_ray_cluster_of_two_nodes(tmp_path, ours, cluster):
    same(tmp_path, ours, "hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}")


@NEEDS["submitit"]
@pytest.mark.skipif(not answers("sinfo"), reason="there is no Slurm: .ci/slurm starts one")
def test_slurm(tmp_path, ours):
    same(tmp_path, ours, "hydra/launcher=submitit_slurm")
