"""TensorBoard's summary of a sweep: the answer as cards, bands over seeds, HPARAMS' columns, the report."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import matplotlib.image
import pandas as pd
from pandas.core.groupby import SeriesGroupBy
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hp
from torch.utils.tensorboard import SummaryWriter

from . import scores
from .dashboard import GROUPS, OUTCOME, plain, tag
from .figures import VALIDATED
from .records import Tables, labels, length, markdown_table, memory_lengths, places, relative, varied

SUFFIX = ".carousel-summary"
"""By which the files of events of a summary are known again."""
FEW = 12
"""Up to so many values of a number the HPARAMS page offers each by itself."""
LOSS, FLOW, ANSWER = "loss over training", "gradient against the lag", "the answer"
"""The sections of the CUSTOM SCALARS page."""


class Chart(NamedTuple):
    """A panel of the CUSTOM SCALARS page, a band for each setting."""

    section: str
    title: str
    card: str
    """The card that shows the mean by itself."""
    bands: dict[str, pd.DataFrame]
    """For each setting, or what it is compared with, under the name of its run: mean, min and max by step."""


def _band(numbers: SeriesGroupBy) -> pd.DataFrame:
    return numbers.agg(["mean", "min", "max"])


def charts(tables: Tables) -> Iterator[Chart]:
    """All that there is to show of finished runs."""
    tables = tables.of(tables.results.assign(label=_runs(tables.results, tables.results["label"])))
    yield from _answers(tables)
    yield from _losses(tables)
    yield from _flows(tables)


def _runs(results: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Labels as names of runs, like those of the runs themselves: `model=gru,lr=0.01`."""
    several = results["model"].nunique() > 1
    return ("model=" * several + labels).str.replace(" ", ",").str.replace("/", "|")


def swept(results: pd.DataFrame) -> str | None:
    """The column of integers against which the answer is shown: the length, or else the first that varies."""
    if results["seq_len"].nunique() > 1:
        return "seq_len"
    kinds = {column: {type(x) for x in results[column].tolist()} for column in varied(results)}
    return next((column for column, found in kinds.items() if found == {int}), None)


def _answers(tables: Tables) -> Iterator[Chart]:
    results = tables.results
    if not (x := swept(results)):
        return
    results = results.assign(label=_runs(results, labels(results, [x])), horizon=memory_lengths(tables, "end"))
    for task, runs in results.groupby("task"):
        said = f"{task}: " * (results["task"].nunique() > 1)
        known = {"gradient horizon": "horizon"} | {c.replace("/", " "): c for c in scores.columns(runs)}
        known |= {"share solved": "solved"} if runs["solved"].notna().all() else {}
        for words, column in sorted(known.items(), key=lambda pair: pair[1] != "solved"):
            numbers = runs.assign(y=runs[column].astype(float)).dropna(subset="y")
            bands = {label: _band(own.groupby(x)["y"]) for label, own in numbers.groupby("label")}
            if column == "solved":  # a share: its runs are yes or no
                bands = {label: band.assign(min=band["mean"], max=band["mean"]) for label, band in bands.items()}
            if bands:
                title = f"{said}{words} against {x.removeprefix('config.')}"
                yield Chart(ANSWER, title, f"answer/{title}", bands)


def _losses(tables: Tables) -> Iterator[Chart]:
    if not len(tables.loss_curves):
        return
    for (task, seq_len), curves in tables.loss_curves.dropna(subset="val/loss").groupby(["task", "seq_len"]):
        bands = {}
        for label, own in curves.groupby("label"):
            runs = own.pivot_table(index="step", columns="run", values="val/loss").ffill()  # one that has ended stays
            bands[label] = runs.agg(["mean", "min", "max"], axis=1)
        own = tables.results[(tables.results["task"] == task) & (tables.results["seq_len"] == seq_len)]
        ends = [curves["step"].min(), curves["step"].max()]
        for column in own:
            if column.startswith(VALIDATED) and own[column].notna().any():
                level = own[column].astype(float).mean()
                name = f"baseline={column.removeprefix(VALIDATED)}"
                bands[name] = pd.DataFrame(level, index=ends, columns=["mean", "min", "max"])
        title = ", ".join(filter(None, (task, "validation loss", length(seq_len))))
        yield Chart(LOSS, title, f"over_seeds/{title}", bands)


def _flows(tables: Tables) -> Iterator[Chart]:
    if not len(tables.gradient_flow):
        return
    flow = tables.gradient_flow
    flow = relative(flow[flow["seq_len"] == flow.groupby("task")["seq_len"].transform("max")])
    several = len(places(flow)) > 1
    for (task, seq_len, layer, direction, state), part in flow.groupby(
        ["task", "seq_len", "layer", "direction", "state"]
    ):
        for when, which in (("at initialisation", "min"), ("after training", "max")):
            now = part[part["step"] == part.groupby("run")["step"].transform(which)]
            bands = {label: _band(own.groupby("lag")["log10_norm"]) for label, own in now.groupby("label")}
            if which == "min" and "predicted" in now:
                expected = now.dropna(subset="predicted").groupby("label")
                bands |= {f"theory,{label}": _band(own.groupby("lag")["predicted"]) for label, own in expected}
            place = f" of layer {layer}, {direction}" * several
            title = ", ".join(filter(None, (task, f"dL/d{state}{place}", when, length(seq_len))))
            yield Chart(FLOW, title, f"over_seeds/{title}", bands)


def columns(tables: Tables) -> Summary:
    """The columns of the HPARAMS page: what varies first, then the outcome; and only what every run has, for a run
    without a value is left out of the parallel coordinates."""
    results = tables.results
    keys = {key: key for key in ("model", "task", "seq_len")} | {c.removeprefix("config."): c for c in varied(results)}
    keys |= {"seed": "seed"}
    settings = []
    for key, column in keys.items():
        found = [plain(x) for x in results[column].tolist()]
        several = results[column].map(str).nunique() > 1
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


def summarise(folder: Path, tables: Tables, shown: Tables, text: str, figures: dict[str, bytes]) -> None:
    """Write `folder`/summary, a run for TensorBoard: HPARAMS' columns, the report as text, its figures as images, and
    how cards are read; and below it a run for each setting, with the answer and the bands.

    It takes the place of an earlier summary; files of others are left alone.

    Args:
        tables: of all runs.
        shown: of those that the report shows.
    """
    target = folder / "summary"
    old = [path for path in target.rglob(f"events.out.tfevents.*{SUFFIX}") if path.is_file()]
    made = [chart for chart in charts(shown) if chart.bands] if len(shown.results) else []
    with SummaryWriter(target, filename_suffix=SUFFIX) as writer:
        writer._get_file_writer().add_summary(columns(tables))
        writer.add_text("report", _shown(text))
        writer.add_text("how cards are read", markdown_table(["group", "what it shows"], [*GROUPS.items()]))
        for name, png in figures.items():
            writer.add_image(f"report/{name}", matplotlib.image.imread(io.BytesIO(png)), dataformats="HWC")
        if made:
            sections = {chart.section: {} for chart in made}
            for chart in reversed(made):  # TensorBoard shows the last one first
                sections[chart.section][chart.title] = ["Margin", list(_cards(chart).values())]
            writer.add_custom_scalars(sections)
    for name in dict.fromkeys(name for chart in made for name in chart.bands):
        with SummaryWriter(target / name, filename_suffix=SUFFIX) as writer:
            for chart in made:
                for step, row in chart.bands.get(name, pd.DataFrame()).iterrows():
                    for column, card in _cards(chart).items():
                        writer.add_scalar(card, row[column], int(step))
    for path in old:
        path.unlink()
        if path.parent != target and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _cards(chart: Chart) -> dict[str, str]:
    """The cards of a band's mean, least and largest."""
    return {"mean": tag(chart.card), **{c: tag(f"over_seeds/{chart.title}, {c}") for c in ("min", "max")}}


def _shown(report: str) -> str:
    """A report without HTML and images, which the TEXT page does not show, and with the long table of settings last."""
    text = re.sub(r"<!--.*?-->\n?|!\[.*?\]\(.*?\)\n*", "", report)
    folded = re.compile(r"<details><summary>(.*?)</summary>\n*(.*?)\n*</details>\n*(.*)", re.S)
    return folded.sub(r"\3\n## \1\n\n\2\n", text)


def link(tables: Tables) -> str:
    """The TIME SERIES page with the answer, the loss, the gradient against the lag and the memory length pinned,
    unsmoothed; the latter two of the state that most runs have."""
    pins = [*[chart.card for chart in _answers(tables)][:1], "val/loss"]
    if len(flow := tables.gradient_flow):
        found = places(flow)
        layers, directions = ({place[k] for place in found} for k in (0, 1))
        end = f"_layer{max(layers)}" * (len(layers) > 1) + "_forward" * (len(directions) > 1)
        runs = flow.groupby("state")["run"].nunique()
        state = max(runs.index, key=lambda state: (runs[state], state == "c", state == "h"))  # in which all compare
        pins += [f"gradient_against_lag/log10_dL_d{state}_{when}{end}" for when in ("at_init", "at_end")]
        pins.append(f"memory_length/{state}{end}")
    cards = json.dumps([{"plugin": "scalars", "tag": tag(name)} for name in pins], separators=(",", ":"))
    colors = "&runColorGroup=" + quote("regex:model=([^,]*)") if tables.results["model"].nunique() > 1 else ""
    return f"http://localhost:6006/?smoothing=0{colors}&pinnedCards={quote(cards, safe='')}#timeseries"
