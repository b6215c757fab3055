"""Child processes of a command, which end with it, including their own children."""

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
    """Run a command in a folder with additional environment variables, and wait; returns its output as text."""
    process: subprocess.Popen[str] | None = None

    def kill() -> None:
        if process is not None and process.returncode is None:
            kill_group(process)

    with undone(kill):
        with shielded():  # an interrupt here would leave a process running
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **variables},
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # its own process group
            )
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a process and its process group; on systems without process groups, only the process."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
