"""MLflow: a run's configuration, curves and record, beside those of all other runs that are kept there."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger

from .progress import under_way
from .records import RECORD, read_record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class MLflow(MLFlowLogger):
    """Lightning's logger, with the run called as its folder is, in an experiment called as the folder around it is, the
    sweep's. A run that goes on from a checkpoint is the same run there.

    Args:
        folder: the run's.
        tracking_uri: of MLflow's store: a database's, such as sqlite:///mlflow.db, or a server's.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
    """

    def __init__(self, folder: str | Path, tracking_uri: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        self.folder = Path(folder).absolute()
        database = tracking_uri.removeprefix("sqlite:///")
        files = None if database == tracking_uri else str(Path(database).absolute().parent / "mlflow")
        try:
            with _alone(tracking_uri):  # MLflow breaks where two processes make its tables at once
                super().__init__(
                    self.folder.parent.name,
                    self.folder.name,
                    tracking_uri,
                    tags={"folder": str(self.folder)},
                    artifact_location=files,
                )
        except ModuleNotFoundError as error:
            line = 'needs MLflow: pip install "torch-carousel[mlflow]", or in a checkout -e ".[mlflow]"'
            raise ModuleNotFoundError(line) from error

    @property
    @rank_zero_experiment
    def experiment(self) -> "MlflowClient":
        if not self._initialized:
            with _alone(self._tracking_uri):  # nor does it like two that make one experiment
                self._take_up()
                super().experiment  # noqa: B018  makes the experiment and the run, where they are not known yet
            record = read_record(self.folder)
            self.log_hyperparams({key: record[key] for key in ("model", "task")} | record["config"])
        return self._mlflow_client

    def _take_up(self) -> None:
        """Of a run that goes on from a checkpoint, find the run in MLflow."""
        client = self._mlflow_client
        known = client.get_experiment_by_name(self._experiment_name)
        if known and under_way(self.folder):
            runs = client.search_runs([known.experiment_id], order_by=["attributes.start_time DESC"])
            self._run_id = next((r.info.run_id for r in runs if r.data.tags.get("folder") == str(self.folder)), None)
            if self._run_id:
                client.update_run(self._run_id, status="RUNNING")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        super().log_metrics({name: y for name, y in metrics.items() if name != "epoch"}, step)

    def conclude(self, record: dict) -> None:
        """Add what is known of a run when it has ended."""
        self.experiment.set_tag(self.run_id, "status", record["status"])
        self.experiment.log_dict(self.run_id, record, RECORD)


@contextlib.contextmanager
def _alone(store: str) -> Generator[None]:
    """One process of this user and machine at a time."""
    name = hashlib.sha256(f"{os.getuid()} {store}".encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"carousel-mlflow-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
