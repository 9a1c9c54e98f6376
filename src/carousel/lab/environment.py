"""What a run's numbers depend on beside its configuration: versions, and the commit of the code."""

import functools
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "lightning", "hydra-core", "tensorboard")


@functools.cache
def environment() -> dict[str, str | None]:
    """Versions of what the numbers depend on, and, in a checkout, the commit of the code."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "git": _commit(Path(__file__).parents[3])}


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:  # git is not installed
        return None
