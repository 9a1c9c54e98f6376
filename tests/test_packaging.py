"""What is built holds all that an installed package needs, and trains and reports from an empty directory."""

import configparser
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the source archive, and the wheel that is made of it, unpacked as an installation is."""
    folder = tmp_path_factory.mktemp("built")
    run(ROOT, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    (source,) = folder.glob("torch_carousel-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "source", filter="data")
    (unpacked,) = (folder / "source").iterdir()
    run(unpacked, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(cwd, *arguments, **environment) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_everything_is_in_it_and_nothing_else(built):
    expected = {name for name in files(ROOT / "src") if not name.startswith("torch_carousel.")}
    expected |= {f"carousel/conf/{name}" for name in files(ROOT / "conf")}
    assert {name for name in files(built) if ".dist-info/" not in name} == expected


def test_it_asks_for_torch_alone_and_the_lab_is_an_extra(built):
    (info,) = built.glob("*.dist-info")
    metadata = Parser().parsestr((info / "METADATA").read_text())
    needs = [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need]
    assert needs == ["torch<2.14,>=2.9"]
    lab = {need.split(">")[0] for need in metadata.get_all("Requires-Dist") if "extra == 'lab'" in need}
    assert lab >= {"lightning", "hydra-core", "tensorboard"}


def test_its_commands_train_and_report_in_the_current_directory(built, tmp_path):
    (info,) = built.glob("*.dist-info")
    entries = configparser.ConfigParser()
    entries.read(info / "entry_points.txt")
    commands = dict(entries["console_scripts"])
    assert set(commands) == {f"carousel-{name}" for name in ("train", "report", "predict", "generate", "bench")}

    def command(name, *arguments):
        module, function = commands[name].split(":")
        code = f"import carousel; print(carousel.__file__); from {module} import {function}; {function}()"
        return run(tmp_path, "-c", code, *arguments, PYTHONPATH=str(built))

    said = command("carousel-train", "task=japanese_vowels", "trainer.max_steps=2", "model.hidden_size=4", "~callbacks")
    assert said.startswith(str(built / "carousel"))
    (record,) = (tmp_path / "outputs" / "runs").glob("*/result.json")
    assert "report.md" in command("carousel-report", record.parent)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_how_to_cite_it():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # what version 1.2.0 of the format requires
    assert cited["cff-version"] == "1.2.0"
    assert (cited["version"], cited["license"], cited["authors"]) == tuple(
        project[name] for name in ("version", "license", "authors")
    )


def test_every_python_from_the_first_to_the_last_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minors = [int(line.rpartition(".")[2]) for line in project["classifiers"]]
    assert minors == list(range(int(project["requires-python"].removeprefix(">=3.")), max(minors) + 1))
