"""Compiled kernels and the folder they are kept in, whatever the user's umask and compiler."""

import logging
import os
import shutil

import pytest

from carousel.engine.fused import build

try:
    build.compiler()
except build.BuildError:
    pytest.skip("no compiler", allow_module_level=True)

SOURCES = {"answer": 'extern "C" int answer() { return ANSWER; }'.replace("ANSWER", "42")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build._say.cache_clear()
    return tmp_path / "carousel"


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_compiled_once_under_any_umask(folder, monkeypatch, caplog, mask):
    before = os.umask(mask)
    try:
        assert build.load(SOURCES)["answer"].answer() == 42
        assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0, 0]  # kernel and lock
        monkeypatch.setattr(build, "_compile", None)
        assert build.load(SOURCES)["answer"].answer() == 42
    finally:
        os.umask(before)
    assert not caplog.records


def test_a_file_that_others_can_write_to_is_refused_in_one_line(folder, caplog):
    build.load(SOURCES)
    (kernel,) = folder.glob("*.so")
    kernel.chmod(0o664)
    with caplog.at_level(logging.WARNING, "carousel"):
        build.load(SOURCES)
        build.load(SOURCES)
    (record,) = caplog.records
    assert f"others can write to {kernel}" in record.message
    assert kernel.stat().st_mode & 0o777 == 0o600


def test_a_compiler_with_arguments(folder, monkeypatch):
    monkeypatch.setenv("CXX", "g++ -DBASE=40")
    if not shutil.which("g++"):
        pytest.skip("no g++")
    sources = {"sum": 'extern "C" int sum() { return BASE + 2; }'}
    assert build.load(sources)["sum"].sum() == 42
    monkeypatch.setenv("CXX", "env g++ -DBASE=41")  # another kernel: how it is compiled is part of its identity
    assert build.load(sources)["sum"].sum() == 43
    assert len(list(folder.glob("*.so"))) == 2


def test_a_complaint_of_the_compiler_is_one_short_line(folder):
    with pytest.raises(build.BuildError, match="refuses the kernel") as caught:
        build.load({"wrong": "int f() { return " + "+ unheard_of" * 200 + "; }"})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
