"""TensorBoard: the names and order of its cards, what a run says of itself there, and the summary of many runs."""

import io
import json
import math
import re
from pathlib import Path
from urllib.parse import quote

import lightning as L
import matplotlib.image
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hp
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from . import scores
from .mlflow import MLflow
from .records import Tables, memory_lengths, places, varied

GROUPS = (
    "loss",
    "metrics",
    "examples",
    "gradient_against_lag",
    "gradient_flow",
    "memory_length",
    "gates",
    "paths",
    "lyapunov",
    "grad_norm",
)
OUTCOME = {
    "solved": "outcome/solved",
    "training steps": "outcome/steps",
    "test loss": "outcome/test_loss",
    "gradient horizon (lags)": "outcome/gradient_horizon",
}
SUFFIX = ".carousel-summary"
"""By which the files of events of a summary are known again."""
FEW = 12
"""Up to so many values of a number the HPARAMS page offers each by itself."""


def tag(name: str) -> str:
    """A card's name, numbered: TensorBoard sorts groups by name, and the loss comes first."""
    split, _, what = name.partition("/")
    if split in ("train", "val", "test"):
        loss = what if what.startswith("baseline") else split if what == "loss" else None
        name = f"loss/{loss}" if loss else f"metrics/{split}_{what}"
    group = name.partition("/")[0]
    return f"{GROUPS.index(group) + 1}_{name}" if group in GROUPS else name


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, with the cards named and ordered by `tag`, and none for the epoch."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        super().log_metrics({tag(name): y for name, y in metrics.items() if name != "epoch"}, step)


def _plain(x: object) -> bool | float | str:
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
            for part in hparams({key: _plain(x) for key, x in chosen.items()}, {})[1:]:  # without the columns
                writer._get_file_writer().add_summary(part)  # a file anew: the trainer has closed the last
            for name, y in zip(OUTCOME.values(), outcome, strict=True):
                if y is not None and math.isfinite(y):
                    writer.add_scalar(name, float(y), trainer.global_step)
            logger.finalize("success")
        elif isinstance(logger, MLflow):
            logger.conclude(record)


def columns(tables: Tables) -> Summary:
    """The columns of the HPARAMS page: what varies first, then the outcome; and only what every run has, for a run
    without a value is left out of the parallel coordinates."""
    results = tables.results
    keys = {key: key for key in ("model", "task", "seq_len")} | {c.removeprefix("config."): c for c in varied(results)}
    keys |= {"seed": "seed"}
    settings = []
    for key, column in keys.items():
        found = [_plain(x) for x in results[column].tolist()]
        several = results[column].astype(str).nunique() > 1
        if key == "seq_len" and not any(found):
            continue
        if (domain := _domain(found)) and (several or key in ("model", "task", "seq_len")):
            settings.append((not several, hp.HParam(key, domain)))
    settings = [setting for _, setting in sorted(settings, key=lambda pair: pair[0])]
    finished = results["status"] == "finished"
    known = results[finished].assign(horizon=memory_lengths(tables, "end")[finished])
    outcome = dict(zip(("solved", "steps", "test/loss", "horizon"), OUTCOME.items(), strict=True))
    outcome |= {c: (re.sub("[/_]", " ", c), tag(c)) for c in scores.columns(known) if c not in outcome}
    shown = [pair for column, pair in outcome.items() if column in known and known[column].notna().all()]
    return hp.hparams_config_pb(settings, [hp.Metric(name, display_name=words) for words, name in shown])


def _domain(found: list) -> hp.Discrete | hp.RealInterval | None:
    """What a column offers; None for one that a run lacks, or whose values are of several kinds."""
    kinds = {float if type(x) is int else type(x) for x in found}
    if len(kinds) != 1 or any(x != x for x in found):
        return None
    values = sorted({float(x) if kinds == {float} else x for x in found})
    many = kinds == {float} and len(values) > FEW
    return hp.RealInterval(values[0], values[-1]) if many else hp.Discrete(values)


def summarise(folder: Path, tables: Tables, text: str, figures: dict[str, bytes]) -> None:
    """Write `folder`/summary, a run for TensorBoard: HPARAMS' columns, the report as text, its figures as images.

    It takes the place of an earlier summary; files of others are left alone.
    """
    target = folder / "summary"
    old = [path for path in target.glob(f"events.out.tfevents.*{SUFFIX}") if path.is_file()]
    with SummaryWriter(target, filename_suffix=SUFFIX) as writer:
        writer.file_writer.add_summary(columns(tables))
        writer.add_text("report", _shown(text))
        for name, png in figures.items():
            writer.add_image(f"report/{name}", matplotlib.image.imread(io.BytesIO(png)), dataformats="HWC")
    for path in old:
        path.unlink()


def _shown(report: str) -> str:
    """A report without HTML and images, which the TEXT page does not show, and with the long table of settings last."""
    text = re.sub(r"<!--.*?-->\n?|!\[.*?\]\(.*?\)\n*", "", report)
    folded = re.compile(r"<details><summary>(.*?)</summary>\n*(.*?)\n*</details>\n*(.*)", re.S)
    return folded.sub(r"\3\n## \1\n\n\2\n", text)


def link(tables: Tables) -> str:
    """The TIME SERIES page with the loss, the gradient against the lag and the memory length pinned, unsmoothed."""
    pins = ["val/loss"]
    if len(flow := tables.gradient_flow):
        found = places(flow)
        layers, directions = ({place[k] for place in found} for k in (0, 1))
        end = f"_layer{max(layers)}" * (len(layers) > 1) + "_forward" * (len(directions) > 1)
        state = next((s for s in "ch" if (flow["state"] == s).any()), flow["state"].iloc[0])
        pins += [f"gradient_against_lag/log10_dL_d{state}_{when}{end}" for when in ("at_init", "at_end")]
        pins.append(f"memory_length/{state}{end}")
    cards = json.dumps([{"plugin": "scalars", "tag": tag(name)} for name in pins], separators=(",", ":"))
    colors = "&runColorGroup=" + quote("regex:model=([^,]*)") if tables.results["model"].nunique() > 1 else ""
    return f"http://localhost:6006/?smoothing=0{colors}&pinnedCards={quote(cards, safe='')}#timeseries"
