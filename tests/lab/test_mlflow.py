"""MLflow beside the other loggers, in a database of this machine."""

import json
import os
import signal
from pathlib import Path

import pytest
from commands import HANGS, call
from test_cli import TINY, records, start, wait_until

mlflow = pytest.importorskip("mlflow", reason='it needs MLflow: pip install -e ".[mlflow]"')


def kept(folder):
    """The runs of each experiment, by their names."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db")
    return client, {
        experiment.name: {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        for experiment in client.search_experiments()
        if experiment.name != "Default"
    }


def test_a_sweep_is_an_experiment_with_every_runs_settings_curves_and_record(tmp_path):
    arguments = ["-m", "logger=mlflow", "logger.tensorboard=null", "model=rnn", "seed=0,1", *TINY]
    done = call(tmp_path, "train.py", *arguments, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    client, found = kept(tmp_path)
    assert list(found) == ["sweep"]
    written = records(tmp_path / "sweep")
    assert found["sweep"].keys() == written.keys()
    for name, run in found["sweep"].items():
        record = written[name]
        assert run.info.status == "FINISHED"
        assert run.data.tags["status"] == "finished"
        assert run.data.params["seed"] == str(record["seed"])
        assert run.data.params["model.hidden_size"] == "4"
        assert run.data.params["model"] == "rnn"
        for metric in ("val/loss", "test/loss", "test/within_0.04"):
            assert run.data.metrics[metric] == pytest.approx(record["metrics"][metric])
        assert [m.step for m in client.get_metric_history(run.info.run_id, "val/loss")] == [6, 12, 12]
        assert "epoch" not in run.data.metrics
        copy = client.download_artifacts(run.info.run_id, "result.json", str(tmp_path))
        assert json.loads(Path(copy).read_text()) == record
    assert not (tmp_path / "mlruns").exists()
    assert (tmp_path / "sweep" / "report.md").exists()


def test_a_run_that_goes_on_is_the_same_run(tmp_path):
    arguments = ["logger=mlflow", "model=rnn", *TINY, "trainer.max_steps=60", "hydra.run.dir=runs/one"]
    arguments += ["callbacks.progress.every_seconds=0", "callbacks.stop_when_solved=null"]
    process = start(tmp_path, *arguments)
    wait_until(lambda: list(tmp_path.glob("runs/one/checkpoints/progress.ckpt")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANGS)
    _, before = kept(tmp_path)
    assert call(tmp_path, "train.py", *arguments).returncode == 0
    _, after = kept(tmp_path)
    (old,), (new,) = (found["runs"].values() for found in (before, after))
    assert (old.info.run_id, old.info.status) == (new.info.run_id, "RUNNING")
    assert new.info.status == "FINISHED"
