"""Processes that a command starts: they, and all that they start, end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...respodiff_core.unfinished import undone
from ..support.interrupts import shielded


def run_child(command: Sequence[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with these environment variables more, and wait; what it says is kept as text."""
    process: subprocess.Popen[str] | None = None

    def kill() -> None:
        if process is not None and process.returncode is None:
            kill_group(process)

    with undone(kill):
        with shielded():  # or a process might run that nobody knows of
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **variables},
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a group of its own
            )
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, and whatever is left of the group; where systems have none, it alone."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
