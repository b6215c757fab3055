"""Finding a Python of a version."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# A Python that cannot make virtual environments is of no use here (Debian leaves ensurepip out).
_PROBE = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"


def find_python(version: str) -> Path | None:
    """An interpreter of that version ("3.12") on PATH that can make virtual environments, or None.

    Each is run, not only found: a version manager's shim may stand first on PATH and start nothing.
    """
    return next((path for path in _candidates(version) if _is(path, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(sys.executable)
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for name in (f"python{version}", "python3", "python"):
        yield from (folder / name for folder in folders if os.access(folder / name, os.X_OK))


def _is(path: Path, version: str) -> bool:
    try:
        done = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version
