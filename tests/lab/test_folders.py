"""Whose a folder is, and what it is called."""

import json
import os
import subprocess
import sys

import pytest
from made_up import BARE
from omegaconf import OmegaConf

from carousel.lab import folders
from carousel.lab.options import OptionError
from carousel.lab.records import write_record

HOLD = "import sys; from pathlib import Path; from carousel.lab import folders; "
HOLD += "folders.claim(Path(sys.argv[1]), 'x', lambda f: None); print('held', flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def release(monkeypatch):
    monkeypatch.setattr(folders, "_locks", {})


def claim(folder, **options):
    return folders.claim(folder, "hydra.run.dir", folders.of_a_run, **options)


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    folder = tmp_path / "here"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    assert folders.is_busy(folder)
    with pytest.raises(OptionError, match=r"hydra\.run\.dir: another process is writing to"):
        claim(folder)
    assert claim(folder, generated=True) == tmp_path / "here_2"
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    assert not folders.is_busy(folder)
    assert claim(folder) == claim(folder) == folder


@pytest.mark.parametrize("name", ["events.out.tfevents.1.mine", "report.md", "data"])
def test_a_folder_with_files_and_no_record_is_refused_and_left_as_it_was(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OptionError, match=f"holds no record of a run, but {name}; choose another folder"):
        claim(tmp_path)
    with pytest.raises(OptionError, match="holds something else than a sweep"):
        folders.claim(tmp_path, "hydra.sweep.dir", folders.of_a_sweep)
    assert {p.name for p in tmp_path.iterdir()} == {name}


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_result_is_not_written_over(tmp_path, status):
    write_record(tmp_path, BARE | {"status": status})
    with pytest.raises(OptionError, match=f"already holds a {status} run; choose another"):
        claim(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", '{"status": "fin', "[]", "{}", "5", "[" * 100000, '{"status": "finished"}', "\0\1\xff"]
    + [json.dumps(BARE | {key: value}) for key, value in (("config", 5), ("status", None), ("baseline_loss", "abc"))],
)
def test_a_record_that_cannot_be_read_is_named_and_set_aside_with_all_that_is_of_the_run(tmp_path, text):
    folder = tmp_path / "run"
    for name in ("run.unreadable", "run.unreadable1"):
        folder.mkdir()
        (folder / "result.json").write_text(text)
        (folder / "events.out.tfevents.1.host.2.0").touch()
        with pytest.raises(OptionError, match=r"result\.json"):
            claim(folder)
        assert str(folder / "result.json") in folders.set_aside(folder)
        assert not folder.exists()
        assert (tmp_path / name / "result.json.unreadable").read_text() == text
        assert (tmp_path / name / "events.out.tfevents.1.host.2.0").exists()
    assert folders.set_aside(folder) is None


def test_another_attempt_removes_what_the_last_one_measured_and_nothing_else(tmp_path):
    own = folders.process()
    ours = f"events.out.tfevents.1.{own['host']}.{own['pid']}.0"
    for name in (ours, "flow.csv", "events.out.tfevents.1.mine", "notes.txt", "elsewhere"):
        (tmp_path / name).write_text("x")
    (tmp_path / "metrics.csv").symlink_to(tmp_path / "elsewhere")
    write_record(tmp_path, BARE | {"status": "interrupted"} | own)
    folders.clear(claim(tmp_path))
    left = {p.name for p in tmp_path.iterdir()} - {".lock", "result.json"}
    assert left == {"events.out.tfevents.1.mine", "notes.txt", "elsewhere", "metrics.csv"}


def test_of_a_run_that_goes_on_only_what_it_has_begun_since_is_removed(tmp_path):
    own = folders.process()
    old, new, summary = (
        f"{place}/events.out.tfevents.{k}.{own['host']}.{own['pid']}.{k}{end}"
        for k, (place, end) in enumerate([("lstm", ""), ("lstm", ""), ("summary", ".carousel-summary")])
    )
    for place in ("lstm", "summary"):
        (tmp_path / place).mkdir()
    for name in (old, new, summary, "flow.csv", f".{own['pid']}-progress.ckpt"):
        (tmp_path / name).write_text("x")
    write_record(tmp_path, BARE | {"status": "running"} | own)
    folders.clear(claim(tmp_path), kept={old: 1, "flow.csv": 1})
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {".lock", "result.json", old, summary, "flow.csv"}


@pytest.mark.parametrize(("kept", "left"), [(None, []), ({"events.out.tfevents.1.here.1.0": 1}, [1])])
def test_of_every_attempt_before_what_is_not_kept_is_removed(tmp_path, kept, left):
    names = {pid: f"events.out.tfevents.1.here.{pid}.0" for pid in (1, 2, 3)}
    for name in names.values():
        (tmp_path / name).write_text("x")
    earlier = [{"host": "here", "pid": pid} for pid in (1, 2)]
    write_record(tmp_path, BARE | {"status": "running", "host": "here", "pid": 3, "earlier": earlier})
    folders.clear(claim(tmp_path), kept)
    assert {path.name for path in tmp_path.glob("events*")} == {names[pid] for pid in left}


def test_what_is_no_folder_or_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="file is no folder"):
        claim(tmp_path / "file")
    with pytest.raises(OptionError, match=r"hydra\.run\.dir: /proc/"):
        claim(folders.Path("/proc/x/y"))


def test_a_second_process_of_one_run_claims_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    write_record(tmp_path, BARE)
    assert claim(tmp_path) == tmp_path


def test_long_names_differ_and_fit_into_a_file_system(tmp_path):
    for text in ("x" * 300, "漢字" * 80):
        names = [folders.run_name([f"+note='{text}'", f"seed={seed}"]) for seed in (0, 1)]
        assert names[0] != names[1]
        for name in names:
            (tmp_path / name).mkdir()
            assert len(os.fsencode(name)) <= 200


def test_many_options_make_one_name(tmp_path):
    options = [f"+model.option_number_{k}={k}" for k in range(300)]
    names = {folders.run_name([*options, f"seed={seed}"]) for seed in range(50)}
    assert len(names) == 50
    assert max(len(os.fsencode(name)) for name in names) <= 200


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["++model.hidden_size=[8,16]", "~callbacks.gates"], "hidden_size=[8,16],gates=null"),
        (["trainer.limit_train_batches=${.max_steps}", "batch_size=${model.hidden_size}"],
         "limit_train_batches={.max_steps},batch_size={model.hidden_size}"),
        (["+model.init={_target_:carousel.initialization.ForgetBias,value:1}"],
         "init={_target_:carousel.initialization.ForgetBias,value:1}"),
        (["task.path='a\nb'"], "path='a_b'"),
    ],
)  # fmt: skip
def test_plusses_tildes_lists_and_interpolations_have_a_name(tmp_path, overrides, name):
    assert folders.run_name(OmegaConf.create(overrides)) == name
    (tmp_path / name).mkdir()


def test_what_all_runs_share_is_in_no_name():
    assert folders.run_name(["++model.hidden_size=8", "seed=1"], ["model.hidden_size"]) == "seed=1"


def test_a_name_has_nothing_that_a_shell_or_hydra_reads_again():
    assert folders.run_name(["a=x\\:y", "b=${c}", "d=e/f"]) == "a=x:y,b={c},d=e_f"
