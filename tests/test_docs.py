"""The API reference is made without a warning, with all the pages, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from test_readme import PAGES

ROOT = Path(__file__).parents[1]


def test_the_reference(tmp_path):
    pytest.importorskip("pdoc")
    done = subprocess.run([sys.executable, ROOT / "scripts" / "docs.py", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.resolve(): path.read_text() for path in tmp_path.rglob("*.html")}
    names = {str(path.relative_to(tmp_path.resolve()).with_suffix("")) for path in pages}
    assert {f"carousel/{name}" for name in ("cells", "gradients", "testing", "engine/fused", "lab/tasks")} <= names
    lost = []
    for path, page in pages.items():
        assert ":math:" not in page
        for target in set(re.findall(r'href="([^"$]+)"', page)):
            where, _, anchor = target.partition("#")
            there = pages.get((path.parent / where).resolve() if where else path, "")
            if not target.startswith("http") and (f'id="{anchor}"' if anchor else "<html") not in there:
                lost.append((path.name, target))
    assert lost == []
    titles = [page.read_text().splitlines()[0] for page in PAGES.values()]
    assert len(titles) == 6
    for title in titles:
        assert sum(f">{title.removeprefix('# ')}</h1>" in page for page in pages.values()) == 1
    assert r"\begin{aligned}" in pages[(tmp_path / "carousel" / "cells.html").resolve()]
    if CHROMIUM:
        browser = Browser(tmp_path / "profile")
        browser.call("Network.setBlockedURLs", urls=["https://*"])  # MathJax is not needed
        try:
            for path in (path for path in pages if path.name != "index.html"):  # which leads on to another
                browser.open(path, width=390)
                assert browser.value("document.documentElement.scrollWidth") == 390, path.name
        finally:
            browser.close()
