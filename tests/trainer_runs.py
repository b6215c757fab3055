"""Real runs of `respodiff` on ToyWorld."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import arrivals
from arrivals import Arrivals
from respodiff.trainer.commands.app import app
from typer.testing import CliRunner
from warm_start import Command

RESPODIFF = [sys.executable, "-m", "respodiff.trainer"]
COMMAND = [*RESPODIFF, "train"]


def two_processes(command: str, *, announcing: bool = False) -> list[str]:
    """A command of `respodiff` as launched on two devices; `announcing` its files to a test that waits for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    program = [arrivals.__file__] if announcing else ["-m", "respodiff.trainer"]
    return [sys.executable, *launch, *program, command]


def undated(adapter: Path) -> bytes:
    """The whole file, but for the day on which training began: tests may run past midnight."""
    return re.sub(rb'("modelspec\.date": ?")\d{4}-\d\d-\d\d', rb"\g<1>0000-00-00", adapter.read_bytes(), count=1)


class Trainer:
    """Runs `respodiff train`, or another command, in a folder, in processes of their own or in this one.

    All have one thread: results are compared bit for bit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._beside = folder.with_name(f"{folder.name}-processes")  # what they print, and their temporary folder
        self._started = count()

    def start(
        self,
        *arguments: object,
        launcher: Sequence[str] = COMMAND,
        arrivals: Arrivals | None = None,
        **options: Any,
    ) -> Command | subprocess.Popen[str]:
        """Start it. `launcher` is RESPODIFF with a command's name, or what starts the command otherwise; it is also
        started from nothing if subprocess.Popen is to have more options. `arrivals` hears of its files.
        """
        words = [*launcher, *map(str, arguments), "--device", "cpu"]
        temporary = self._beside / "temporary"
        temporary.mkdir(parents=True, exist_ok=True)
        own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "TMPDIR": str(temporary)}
        environment = {**os.environ, **own, **(arrivals.environment if arrivals else {})}
        if words[: len(RESPODIFF)] == RESPODIFF and not options:
            output = self._beside / str(next(self._started))
            return Command(words[len(RESPODIFF) :], self.folder, environment, output)
        pipe = subprocess.PIPE
        return subprocess.Popen(words, cwd=self.folder, env=environment, text=True, stdout=pipe, stderr=pipe, **options)

    def run(self, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def here(self, *arguments: object, launcher: Sequence[str] = COMMAND) -> subprocess.CompletedProcess[str]:
        """The same in this process, which does not take seconds to begin; lines of its log go to pytest's.

        `launcher` is RESPODIFF with a command's name.
        """
        words = [*launcher[len(RESPODIFF) :], *map(str, arguments), "--device", "cpu"]
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        finally:
            os.chdir(before)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    def path(self, name: str) -> Path:
        return self.folder / name
