import torch

from carousel.lab.environment import environment


def test_it_names_the_versions():
    assert environment()["torch"] == torch.__version__


def test_without_git_there_is_no_commit_and_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.__wrapped__()["git"] is None
