"""Compiled kernels and the folder they are kept in, whatever the user's umask and compiler."""

import logging
import os
import re
import shutil

import pytest
import torch

import carousel
from carousel.engine.fused.cpu import build
from carousel.engine.registry import REGISTRY

try:
    build.compiler()
except build.BuildError:
    pytest.skip("no compiler", allow_module_level=True)

SOURCES = {"answer": 'extern "C" int answer() { return ANSWER; }'.replace("ANSWER", "42")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    REGISTRY.said.clear()
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


def replace(kernel, content):
    kernel.unlink()  # it is loaded, and not to be written into
    kernel.write_bytes(content)
    kernel.chmod(0o600)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-40] + bytes(8) + b[-32:]])
def test_a_broken_file_is_built_anew(folder, damage):
    build.load(SOURCES)
    (kernel,) = folder.glob("*.so")
    replace(kernel, damage(kernel.read_bytes()))
    assert build.load(SOURCES)["answer"].answer() == 42
    assert build._whole(kernel, kernel.stem)


def test_a_whole_kernel_of_another_source_is_built_anew(folder):
    sources = SOURCES | {"other": 'extern "C" int answer() { return 41; }'}
    build.load(sources)
    one, other = folder.glob("*.so")
    replace(one, other.read_bytes())
    assert [library.answer() for library in build.load(sources).values()] == [42, 41]


@pytest.mark.parametrize(
    ("broken", "told"),
    [("PATH", "install g[+][+]"), ("CXX", "refuses the kernel"), ("chmod", "others can write .* chmod go-w")],
)
def test_a_layer_that_has_no_kernel_says_why(folder, monkeypatch, caplog, broken, told):
    class Fresh(carousel.LSTMCell):
        """None of which there is a kernel yet."""

    if broken == "chmod":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        monkeypatch.setenv("CXX", "false" if broken == "CXX" else "")
        if broken == "PATH":
            monkeypatch.setenv("PATH", str(folder))
    REGISTRY.said.clear()
    layer = carousel.Recurrent(Fresh, 3, 7)
    layer(torch.ones(4, 2, 3))
    assert re.search(told, caplog.text)
    layer.backend = "fused"
    with pytest.raises(RuntimeError, match=told):
        layer(torch.ones(4, 2, 3))
