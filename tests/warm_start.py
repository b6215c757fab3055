"""`respodiff` in processes that need not load its libraries, which takes seconds: forked from one that has.

They are real processes, with their own folder, environment, output and signals, and one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from arrivals import announce

_LOADED = (
    "warm_start",
    "respodiff.trainer.commands.app",
    "respodiff.trainer.run.training",
    "respodiff.trainer.evaluation.run",
)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_LOADED))


class Command:
    """A command that has been started, with what tests need of subprocess.Popen; its output is text."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path) -> None:
        """Start it in `folder`; what it prints goes to two files below `output`, which is made."""
        output.mkdir(parents=True)
        self.args = list(arguments)
        self._printed = output / "stdout", output / "stderr"
        for path in self._printed:
            path.touch()  # it may be killed before it does so
        paths = [str(path) for path in self._printed]
        self._process = _context.Process(target=_run, args=(self.args, str(folder), dict(environment), paths))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it printed, to stdout and to stderr, once it has ended; raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self._printed)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], folder: str, environment: dict[str, str], printed: list[str]) -> None:
    """In the new process: as if it had been started by a shell."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    for number, path in enumerate(printed, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = ["respodiff", *arguments]
    announce()
    import torch
    from respodiff.trainer.__main__ import main

    torch.set_num_threads(1)  # it was loaded before the environment that says so
    main()
