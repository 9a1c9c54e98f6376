"""The report as a page: read as HTML, and in a browser."""

from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from browser import CHROMIUM, Browser
from made_up import make_run

from carousel.lab import html, report
from carousel.lab.records import collect, list_runs, read_record, write_record
from carousel.lab.report import write_report

VOID = {"meta", "link", "input", "img", "br", "hr"}


class Page(HTMLParser):
    """What a page holds; every tag has to be closed in its order."""

    def __init__(self, path):
        super().__init__()
        self.path, self.open, self.words, self.rows, self.tags = path, [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] * (tag not in VOID)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag, attribute):
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    @property
    def runs(self):
        """The table of runs: for each, its cells by their heads."""
        last = next(k for k, row in enumerate(self.rows) if row[-1] == "folder")
        return [dict(zip(self.rows[last], row, strict=True)) for row in self.rows[last + 1 :]]


def make_sweep(folder):
    """Eight runs: five are finished, one is solved, one has failed, one has diverged, one was not begun."""
    for seed in (0, 1):
        make_run(folder, "rnn", 100, seed, val_loss=0.12, config={"optimizer.lr": (0.01, 0.003)[seed]})
        make_run(
            folder, "gru", 100, seed, val_loss=(0.15, 0.005)[seed], steps_to_solve=80, config={"optimizer.lr": 0.003}
        )
    make_run(folder, "gru", 20, val_loss=0.15, config={"optimizer.lr": 0.01})
    failed = make_run(folder, "rnn", 20, status="failed")
    write_record(failed, read_record(failed) | {"error": "TypeError: <lambda>() takes 1 & not <b>2</b>"})
    make_run(folder, "rnn", 20, 1, status="diverged", val_loss=float("nan"))
    runs = [path.name for path in folder.iterdir()]
    list_runs(folder, [*runs, "model=rnn,seed=9"])
    return {*runs, "model=rnn,seed=9"}


def make_page(folder, output=None):
    assert write_report(collect(folder), folder, output) == []
    return Page((output or folder) / "report.html")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "a 100% #1"
    return folder, make_sweep(folder), make_page(folder)


@pytest.fixture
def plain(monkeypatch):
    """Reports without figures, which take their time."""
    monkeypatch.setattr(report, "plans", lambda *_: {})


def test_every_run_is_there_and_every_link_leads_to_it(sweep, plain, tmp_path):
    folder, runs, here = sweep
    for page in (here, make_page(folder, tmp_path)):
        assert {run["folder"] for run in page.runs} == runs
        links = page.all("a", "href")
        to_runs = [link for link in links if not link.startswith("#")]
        assert len(to_runs) == 7 + 2  # in the table, and what did not finish once more
        for link in to_runs:
            assert (page.path.parent / unquote(link) / "result.json").exists()
        names = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert {link[1:] for link in links if link.startswith("#")} < set(names)
        assert len(names) == len(set(names))


def test_the_table_tells_what_varies_and_what_came_of_it(sweep):
    page = sweep[-1]
    (run,) = (run for run in page.runs if run["model"] == "gru" and run["seed"] == "1")
    assert run.pop("folder").startswith("model=gru")
    assert run == {
        "model": "gru",
        "seq_len": "100",
        "optimizer.lr": "0.003",
        "seed": "1",
        "status": "finished",
        "solved": "yes",
        "steps": "100",
        "test loss": "0.005",
        "memory length": "99",
        "time (s)": "2",
    }
    assert "What varies: model (gru, rnn), seq_len (20, 100), optimizer.lr (0.003, 0.01), seed (0, 1)." in page.text


def test_large_numbers_are_whole_and_missing_ones_empty(tmp_path):
    make_run(tmp_path, "rnn", 10, task="words")
    folder = make_run(tmp_path, "rnn", 12345, config={"model.size": 12345})
    make_run(tmp_path, "rnn", 12345, config={"model.size": 10})
    write_record(folder, read_record(folder) | {"steps": 123456, "wall_time_s": 54321.98})
    for path in tmp_path.glob("*words*"):
        write_record(path, read_record(path) | {"seq_len": None, "solved": None, "wall_time_s": None})
    tables = collect(tmp_path)
    rows = html.choices(tables.results).join(html.outcomes(tables)).drop(columns="memory length")
    assert " ".join(rows) == "task seq_len model.size seed solved steps test loss time (s)"
    assert rows.to_numpy().tolist() == [
        ["adding", "12345", "10", "0", "no", "100", "0.15", "2"],
        ["adding", "12345", "12345", "0", "no", "123456", "0.15", "54322"],
        ["words", "", "", "0", "", "100", "0.15", ""],
    ]


def test_what_failed_says_why(sweep):
    page = sweep[-1]
    (run,) = (run for run in page.runs if run["status"].startswith("failed"))
    assert run["status"] == "failedTypeError: <lambda>() takes 1 & not <b>2</b>"
    assert page.text.count("<lambda>() takes 1 & not <b>2</b>") == 2
    assert "8 runs (5 finished, 1 failed, 1 diverged and 1 not begun)" in page.text


def test_the_page_says_what_the_report_says(sweep):
    folder, _, page = sweep
    for line in (folder / "report.md").read_text().splitlines():
        if not line.startswith(("<", "!", "| ---", "- [")):
            for part in line.strip("#|-").replace("`", "").split("|"):
                assert " ".join(part.split()) in page.text


def test_the_page_needs_nothing_but_itself(sweep):
    folder, _, page = sweep
    figures = page.all("img", "src")
    assert len(figures) == 3
    assert all(figure.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,")) for figure in figures)
    assert all(len(alt.split()) > 5 for alt in page.all("img", "alt"))
    assert page.all("link", "href") == ["data:,"]
    assert page.all("script", "src") == []
    first = page.path.read_bytes()
    assert b"://" not in first
    assert make_page(folder).path.read_bytes() == first


def test_fifty_runs_take_little_room(plain, tmp_path):
    for seed in range(50):
        make_run(tmp_path, "rnn", 5, seed, config={"optimizer.lr": 0.01, "trainer.val_check_interval": 50})
    assert make_page(tmp_path).path.stat().st_size < 40_000


def test_a_page_that_cannot_be_made_costs_nothing_else(plain, tmp_path, monkeypatch):
    make_run(tmp_path, "rnn", 10)
    page = make_page(tmp_path)
    monkeypatch.setattr(html, "words", lambda *_: 1 / 0)
    said = "report.html was not written: ZeroDivisionError: division by zero"
    assert write_report(collect(tmp_path), tmp_path) == [said]
    assert (tmp_path / "report.md").exists()
    assert not page.path.exists()  # it would say what was so before


def test_tables_alone_get_no_page(plain, tmp_path):
    make_run(tmp_path / "runs", "rnn", 10)
    make_page(tmp_path / "runs", tmp_path / "tables")
    (tmp_path / "tables" / "report.html").unlink()
    assert write_report(collect(tmp_path / "tables"), tmp_path / "tables") == []
    assert not (tmp_path / "tables" / "report.html").exists()


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_the_table_is_sorted_and_filtered_by_hand(sweep, plain, tmp_path):
    path = sweep[-1].path
    browser = Browser(tmp_path / "profile")

    def column(head):
        heads = browser.value("[...document.querySelectorAll('#table th')].map(th => th.textContent)")
        return heads.index(head) + 1

    def shown(head):
        cells = f"#table tbody tr:not([hidden]) td:nth-child({column(head)})"
        return browser.value(f"[...document.querySelectorAll('{cells}')].map(td => td.textContent)")

    def sort(head):
        browser.click(f"#table th:nth-child({column(head)}) button")
        return shown(head)

    try:
        make_run(tmp_path / "one", "rnn", 10)
        browser.open(make_page(tmp_path / "one").path)
        assert browser.value("document.querySelector('.filter').offsetHeight") == 0  # there is nothing to choose from

        browser.requested.clear()
        browser.open(path)
        assert len(shown("model")) == 8
        assert sort("test loss") == ["0.005", "0.12", "0.12", "0.15", "0.15", "0.15", "", ""]
        assert sort("test loss") == ["0.15", "0.15", "0.15", "0.12", "0.12", "0.005", "", ""]
        assert sort("seq_len") == ["20"] * 3 + ["100"] * 4 + [""]  # numbers by size
        in_turn = ["0.15", "0.15", "", "0.15", "0.12", "0.12", "0.005", ""]
        assert shown("test loss") == in_turn  # equals stay as they were
        assert browser.value("document.querySelectorAll('[aria-sort=ascending]').length") == 1
        browser.press("Enter", 13, text="\r")  # the head has the focus
        assert shown("seq_len") == ["100"] * 4 + ["20"] * 3 + [""]

        browser.click("#words")
        browser.type("rnn SEED=1")
        assert shown("seq_len") == ["100", "20"]
        assert browser.value("document.querySelector('#shown').value") == "2 of 8 runs"
        browser.press("Tab", 9)
        browser.press("d", 68, text="d")  # which chooses a status by its first letter
        assert shown("status") == ["divergedValueError: it broke"]

        of_first_table = "document.querySelectorAll('main > .scroll:first-of-type tr')"
        firsts = f"[...{of_first_table}].map(row => row.innerText.split(' ')[0])"
        _, *before = browser.value(firsts)
        browser.click("main > .scroll th button")  # of a table in the text
        browser.click("main > .scroll th button")
        assert browser.value(firsts)[1:] == sorted(before, reverse=True) != before
        rising = ["-3", "1e-5", "9", "80 steps", "19,919", "> 500", "gru lr=0.003", "gru lr=0.01", "lstm_forget1"]
        assert browser.value(f"{rising[::-1]}.sort((a, b) => compare(a, b, 1))") == rising

        browser.open(path, width=390, dark=True)
        assert browser.value("document.documentElement.scrollWidth") == 390
        behind = "getComputedStyle(document.querySelector('%s')).backgroundColor == 'rgb(255, 255, 255)'"
        assert [browser.value(behind % part) for part in ("body", "figure")] == [False, True]
        assert {url for url in browser.requested if not url.startswith("data:")} == {path.as_uri()}
    finally:
        browser.close()
