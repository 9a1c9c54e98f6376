"""The commands as people type them, in processes of their own, from another working directory."""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, PLACES))}
HANGS = 1800
"""Seconds after which a process is taken to hang; no busy machine makes a test's take so long."""
NURSERY = f"""
import atexit, json, os, runpy, signal, sys, threading
from multiprocessing import forkserver
from carousel import commands
commands._lab("cli")  # once for all: it takes longer than most commands
server = forkserver._forkserver  # so, too, of the processes of sweeps
server.set_forkserver_preload(["carousel.lab.app"])
server.ensure_running()
server.ensure_running = lambda: None
for line in sys.stdin:
    cwd, files, sys.argv = json.loads(line)
    if not os.fork():
        signal.alarm({HANGS})
        os.chdir(cwd)
        for number, path in enumerate(files):
            os.dup2(os.open(path, os.O_RDWR), number)
        sys.path[0] = os.path.dirname(sys.argv[0])
        code = 0
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        if isinstance(code, str):
            print(code, file=sys.stderr)
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else code is not None)  # to take all apart would take five times as long
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def command(script, *arguments) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]


def typed(cwd, script, *arguments) -> subprocess.CompletedProcess:
    """What becomes of a command."""
    line = command(script, *arguments)
    done = subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=HANGS)
    return _without_notice(done)


def call(cwd, script, *arguments) -> subprocess.CompletedProcess:
    """The same in a fork of a process that has imported what all commands import, and whose server of processes serves
    the sweeps of all."""
    line = command(script, *arguments)[1:]
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as errors:
        nursery = _nursery()
        nursery.stdin.write(json.dumps([str(cwd), [os.devnull, out.name, errors.name], line]) + "\n")
        nursery.stdin.flush()
        code = int(nursery.stdout.readline())
        return _without_notice(subprocess.CompletedProcess(line, code, out.read().decode(), errors.read().decode()))


@cache
def _nursery() -> subprocess.Popen:  # it ends with the tests, as its input does
    return subprocess.Popen([sys.executable, "-c", NURSERY], env=ENVIRONMENT, stdin=-1, stdout=-1, text=True)


def _without_notice(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    notice = "carousel runs eagerly: there is no C++ compiler"  # where there is none, that is said, in one line
    done.stderr = "".join(line for line in done.stderr.splitlines(True) if not line.startswith(notice))
    return done
