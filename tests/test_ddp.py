import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from agreement import FORMS
from commands import HANGS

SCRIPT = Path(__file__).parent / "ddp.py"


def test_two_processes_train_every_cell_and_a_stream_as_one_does(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parent / "lab"), os.environ.get("PYTHONPATH", "")])
    environment["TRITON_INTERPRET"], forms = "1", len(FORMS) + (find_spec("triton") is not None)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANGS,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in range(2):
        assert f"rank {rank}: {forms} layers agree" in done.stdout
        assert f"rank {rank}: the stream agrees" in done.stdout
        assert f"rank {rank}: both stop" in done.stdout
        assert f"rank {rank}: cut off, it ends the same" in done.stdout
