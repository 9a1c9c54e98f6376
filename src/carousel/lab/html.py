"""The report as a page: the words and figures of report.md, and a table of all runs to sort and filter, in one file."""

import base64
import io
import os
import re
from typing import NamedTuple
from urllib.parse import quote

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib.figure import Figure

from . import scores
from .records import Tables, memory_lengths, value, varied
from .style import few, levels

MARKDOWN = MarkdownIt("commonmark", {"xhtmlOut": False}).enable("table").disable("html_inline")  # errors say <lambda>
TEMPLATES = Environment(
    loader=PackageLoader("carousel.lab"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Row(NamedTuple):
    """A run in the table."""

    settings: list[str]
    status: str
    error: str
    outcome: list[str]
    folder: str
    link: str


def page(title: str, text: str, pictures: dict[str, str], tables: Tables, waiting: list[str], to_runs: str) -> str:
    """The whole page; it refers to nothing but the runs' folders.

    Args:
        text: of the report, in Markdown.
        pictures: what `picture` makes of each figure in the text, by the name of its file.
        tables: of all runs.
        waiting: the runs that were not begun.
        to_runs: the way from the page to the folder of the runs.
    """
    content, sections = words(text, pictures)
    settings, outcome = choices(tables.results), outcomes(tables)
    words_of = zip(settings.to_numpy().tolist(), outcome.to_numpy().tolist(), strict=True)
    rows = [
        Row(chosen, run.status, run.error if isinstance(run.error, str) else "", came, run.run, link(to_runs, run.run))
        for run, (chosen, came) in zip(tables.results.itertuples(), words_of, strict=True)
    ]
    blank = [""] * settings.shape[1], [""] * outcome.shape[1]
    rows += [Row(blank[0], "not begun", "", blank[1], run, "") for run in waiting]
    swept = {name: few(levels(found[found != ""])) for name, found in settings.items() if found.nunique() > 1}
    return TEMPLATES.get_template("report.html").render(
        title=title, swept=swept, content=content, sections=sections, settings=settings, outcome=outcome, rows=rows
    )


def link(*parts: str) -> str:
    """A relative path as the target of a link."""
    return quote(os.path.normpath(os.path.join(*parts)).replace(os.sep, "/"), safe="/=,+~")


def picture(figure: Figure, png: bytes) -> str:
    """A figure as a data URI: as SVG, which is sharp at any size, or as the PNG where that is smaller."""
    buffer = io.BytesIO()
    figure.set_layout_engine("none")  # it is laid out already, as the PNG
    with matplotlib.rc_context({"svg.hashsalt": "carousel"}):  # the same figure, the same bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    kind, data = min(("svg+xml", buffer.getvalue()), ("png", png), key=lambda form: len(form[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def words(text: str, pictures: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Markdown as HTML, each figure inlined and each table in a box that scrolls; and its sections' titles by their
    ids."""
    tokens, shown, sections = MARKDOWN.parse(text), [], {}
    for k, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            title = tokens[k + 1].content
            name = re.sub(r"\W+", "-", title.lower())
            token.attrSet("id", name)
            sections[name] = title
        children = token.children or []
        if token.type == "inline" and [part.type for part in children] == ["image"]:
            (image,) = children
            image.attrSet("src", pictures[str(image.attrGet("src"))])
            tokens[k - 1].tag = tokens[k + 1].tag = "figure"
        if token.type == "table_open":
            shown.append(Token("box_open", "div", 1, attrs={"class": "scroll"}, block=True))
        shown.append(token)
        if token.type == "table_close":
            shown.append(Token("box_close", "div", -1, block=True))
    return MARKDOWN.renderer.render(shown, MARKDOWN.options, {}), sections


def choices(results: pd.DataFrame) -> pd.DataFrame:
    """What varies from run to run, and the seed, in words."""
    columns = {name: name for name in ("model", "task", "seq_len")}
    columns |= {column.removeprefix("config."): column for column in varied(results)}
    known = results.assign(seq_len=results["seq_len"].replace(0, None))  # of many lengths
    found = {name: known[column].map(_word) for name, column in columns.items()}
    return pd.DataFrame(
        {name: words for name, words in found.items() if words.nunique() > 1} | {"seed": results["seed"].map(_word)}
    )


def outcomes(tables: Tables) -> pd.DataFrame:
    """What came of each run, in words: of all that is known of any."""
    results = tables.results
    found = {"solved": results["solved"].map({True: "yes", False: "no"}), "steps": results.get("steps")}
    found |= {
        column.replace("/", " "): results[column].map("{:.4g}".format, na_action="ignore")
        for column in scores.columns(results)
    }
    found |= {"memory length": memory_lengths(tables, "end"), "time (s)": results.get("wall_time_s")}
    return pd.DataFrame({name: x.map(_word) for name, x in found.items() if x is not None and x.notna().any()})


def _word(x: object) -> str:
    return "" if x is None or x != x else value(x)
