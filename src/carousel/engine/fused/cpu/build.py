"""A kernel's source to a function that can be called: compiled once, kept in the user's cache."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from ...registry import REGISTRY
from ..target import BuildError

FLAGS = ["-O3", "-std=gnu++17", "-shared", "-fPIC", "-pthread", "-w"]
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]  # -ffast-math would undo the rounding in exp
NATIVE = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
INSTALL = "g++ (Debian, Ubuntu), gcc-c++ (Fedora) or Xcode's command line tools (macOS)"


def compiler() -> tuple[str, ...]:
    """The C++ compiler: $CXX, which may have arguments ("ccache g++", "g++ -fsanitize=address"), g++ or clang++.

    Raises:
        BuildError: there is none.
    """
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        words = shlex.split(name or "")
        if words and (found := shutil.which(words[0])):
            return (found, *words[1:])
    raise BuildError(f"there is no C++ compiler ($CXX, g++, clang++); install {INSTALL}")


@lru_cache
def _identity(command: tuple[str, ...]) -> bytes:
    """What a compiled kernel depends on besides its source: the compiler and how it is called, the C library, and this
    CPU, for which it compiles; the machines that share a home folder may differ in each."""
    programs = [Path(found).resolve() for word in command if (found := shutil.which(word))]  # behind ccache too
    compilers = [(str(program), (status := program.stat()).st_size, status.st_mtime_ns) for program in programs]
    cpu: object = platform.uname()
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        cpu = [line for line in told if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return repr((command, compilers, platform.libc_ver(), cpu, FLAGS, NATIVE)).encode()


def cache() -> Path:
    """The folder of compiled kernels: `carousel` under $XDG_CACHE_HOME or ~/.cache; made if it is not there.

    Raises:
        BuildError: it cannot be made, or others can write there.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "carousel"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise BuildError(f"no cache for kernels: {error}; set XDG_CACHE_HOME to a folder of yours") from error
    if not _is_ours(status):
        raise BuildError(f"others can write to {folder}; make it yours alone: chmod go-w {folder}")
    return folder


def load(sources: dict[str, str]) -> dict[str, ctypes.CDLL]:
    """Shared objects by name, each from its source: from the cache, or else compiled, all at the same time.

    Many processes may ask at once: one of them compiles, the others wait for it. What stands in the cache is loaded
    only if it is ours and whole.

    Raises:
        BuildError: there is no compiler, it refuses the source, or the cache cannot be written to or loaded from.
    """
    command, folder = compiler(), cache()
    identity = _identity(command)
    keys = {name: hashlib.sha256(text.encode() + b"\0" + identity).hexdigest()[:32] for name, text in sources.items()}
    places = {name: folder / f"{key}.so" for name, key in keys.items()}

    def missing() -> list[str]:
        return [name for name in sources if not _whole(places[name], keys[name])]

    try:
        if missing():
            with contextlib.ExitStack() as stack:
                for key in sorted(keys.values()):
                    lock = stack.enter_context(open(folder / f"{key}.lock", "w", opener=_private))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
                made = _compile(command, {name: sources[name] for name in missing()}, work)  # others may have been here
                for name, path in made.items():
                    path.write_bytes(_sealed(path.read_bytes(), keys[name]))
                    path.chmod(0o600)  # the compiler's files are as the user's umask has them
                    path.replace(places[name])
        return {name: ctypes.CDLL(str(place)) for name, place in places.items()}
    except OSError as error:
        raise BuildError(f"{folder} does not serve as a cache of kernels: {error}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _compile(command: tuple[str, ...], sources: dict[str, str], work: Path) -> dict[str, Path]:
    jobs, made = {}, {name: work / f"{name}.so" for name in sources}
    for name, source in sources.items():
        (work / f"{name}.cpp").write_text(source)
        arguments = [*command, *FLAGS, NATIVE, str(work / f"{name}.cpp"), "-o", str(made[name])]
        jobs[name] = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    complaints = {name: job.communicate()[0].decode(errors="replace") for name, job in jobs.items()}
    for name, job in jobs.items():
        if job.returncode:
            lines = complaints[name].replace(f"{work}/", "").splitlines() or ["it does not say why"]
            line = next((line for line in lines if "error" in line), lines[0])
            raise BuildError(f"{shlex.join(command)} refuses the kernel: {line.strip()[:200]}")
    return made


def _sealed(content: bytes, key: str) -> bytes:
    """The content, and behind it a digest of the content and of what it was made from."""
    return content + hashlib.sha256(key.encode() + content).digest()


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _whole(path: Path, key: str) -> bool:
    """Whether the file is a kernel of this key, written to its end, by this user."""
    try:
        status, content = path.stat(), path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        REGISTRY.warn(f"carousel compiles a kernel anew: {error}")
        return False
    if not _is_ours(status):
        REGISTRY.warn(f"carousel compiles a kernel anew: others can write to {path}")
    elif content == _sealed(content[:-32], key):
        return True
    else:
        REGISTRY.warn(f"carousel compiles a kernel anew: {path} is not whole")
    return False
