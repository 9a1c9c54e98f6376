"""TensorBoard: the names and order of its cards, and what a run says of itself there."""

import math

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from .mlflow import MLflow

GROUPS = {
    "answer": "In a sweep's summary: what came out, the mean of the seeds. **The axis below is what was swept.**",
    "loss": "Of training, validation and test, and what baselines lose on the same validation data.",
    "metrics": "The task's own scores.",
    "examples": "What the trained model does with a few test sequences.",
    "gradient_against_lag": "The norm of the loss's gradient with respect to a state so many steps before the loss, "
    "relative to lag 0, as a decimal logarithm: -2 is 1%. **The axis below is the lag, not the training step.** "
    "Predicted: by theory, from the weights at initialisation.",
    "gradient_flow": "The same as a map, over training.",
    "memory_length": "The largest lag at which that gradient is above 1%, over training.",
    "gates": "The mean of each gate, and the share of its values under 0.1 (closed) and over 0.9 (open); and how many "
    "steps the units keep what they hold.",
    "paths": "What the carousel alone, and the gates alone, carry of the gradient over half the sequence, as the "
    "decimal logarithm of its share of the whole.",
    "lyapunov": "The largest exponent per step, in nats: above 0, nearby states part.",
    "grad_norm": "Of all parameters together, before clipping.",
    "over_seeds": "In a sweep's summary: the mean, the least and the largest of runs that differ in their seed alone. "
    "CUSTOM SCALARS shows them as bands.",
}
"""The groups of cards in their order, and how each is read."""
OUTCOME = {
    "solved": "outcome/solved",
    "training steps": "outcome/steps",
    "test loss": "outcome/test_loss",
    "gradient horizon (lags)": "outcome/gradient_horizon",
}


def tag(name: str) -> str:
    """A card's name, numbered: TensorBoard sorts groups by name, and the loss comes first."""
    split, _, what = name.partition("/")
    if split in ("train", "val", "test"):
        loss = what if what.startswith("baseline") else split if what == "loss" else None
        name = f"loss/{loss}" if loss else f"metrics/{split}_{what}"
    group = name.partition("/")[0]
    return f"{[*GROUPS].index(group)}_{name}" if group in GROUPS else name


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, with the cards named and ordered by `tag`, and none for the epoch."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        super().log_metrics({tag(name): y for name, y in metrics.items() if name != "epoch"}, step)


def plain(x: object) -> bool | float | str:
    """A value as HPARAMS takes it."""
    return x if isinstance(x, bool | int | float | str) else str(x)


def log_run(trainer: L.Trainer, record: dict, gradient_horizon: float) -> None:
    """The settings and the outcome of a run, for the HPARAMS page.

    Which of them are its columns is said by the summary of a report: TensorBoard takes the columns from one record
    alone, and those that one run has are not another's.
    """
    chosen = {key: record[key] for key in ("model", "task", "seq_len") if record[key] is not None}
    chosen |= {key: x for key, x in record["config"].items() if not key.split(".")[-1].startswith("_")}
    outcome = (record["solved"], record["steps"], record["metrics"].get("test/loss", math.nan), gradient_horizon)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            writer = logger.experiment
            for part in hparams({key: plain(x) for key, x in chosen.items()}, {})[1:]:  # without the columns
                writer._get_file_writer().add_summary(part)  # a file anew: the trainer has closed the last
            for name, y in zip(OUTCOME.values(), outcome, strict=True):
                if y is not None and math.isfinite(y):
                    writer.add_scalar(name, float(y), trainer.global_step)
            logger.finalize("success")
        elif isinstance(logger, MLflow):
            logger.conclude(record)
