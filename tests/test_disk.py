"""A disk that is full, or cannot be written to, in the middle of a sweep."""

import json
import shlex
import shutil
import subprocess

import pytest
from commands import ENVIRONMENT, HANGS, command

OPTIONS = "-m seed=0,1 task.seq_len=10 model.hidden_size=4 eval_size=20 trainer.val_check_interval=6 "
OPTIONS += "trainer.max_steps=12 hydra.sweep.dir=sweep hydra.launcher.n_jobs=1"
ROOM = 190
"""KiB: enough for one of the two runs."""
SCRIPT = """
mount -t tmpfs -o size={room}k none disk && cd disk || exit 9
{train} > ../1.out 2> ../1.err; echo $? >> ../codes; cp -r sweep ../full
mount -o remount,ro .
{train} > ../2.out 2> ../2.err; echo $? >> ../codes
mount -o remount,rw,size=8m .
{train} > ../3.out 2> ../3.err; echo $? >> ../codes; cp -r sweep ../more
"""


def mounts() -> bool:
    """Whether we may have a disk of our own, that no other process sees."""
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


def statuses(sweep):
    return {path.parent.name[:6]: json.loads(path.read_text())["status"] for path in sweep.glob("*/result.json")}


@pytest.mark.skipif(not mounts(), reason="no disk can be made")
def test_what_is_finished_stays_and_the_rest_is_done_when_there_is_room_again(tmp_path):
    (tmp_path / "disk").mkdir()
    script = SCRIPT.format(room=ROOM, train=shlex.join(command("train.py", *OPTIONS.split())))
    subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, env=ENVIRONMENT, timeout=HANGS, check=True)
    assert (tmp_path / "codes").read_text().split() == ["1", "1", "0"]
    said = [(tmp_path / f"{k}.{end}").read_text() for k in (1, 2, 3) for end in ("out", "err")]
    assert not any("Traceback" in text for text in said)

    assert statuses(tmp_path / "full")["seed=0"] == "finished"
    assert statuses(tmp_path / "full").get("seed=1") != "finished"
    assert "No space left on device" in said[0]
    assert said[1].endswith("error: 1 of 2 runs failed\n")
    assert said[2] == ""
    assert said[3] == "error: hydra.sweep.dir: sweep/.lock: Read-only file system\n"
    assert statuses(tmp_path / "more") == {"seed=0": "finished", "seed=1": "finished"}
    first, kept = (next((tmp_path / where).glob("seed=0*")) for where in ("full/", "more/"))
    for path in first.rglob("*"):
        if path.is_file():
            assert (kept / path.relative_to(first)).read_bytes() == path.read_bytes()
