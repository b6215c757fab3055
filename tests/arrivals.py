"""Waiting for files that another process puts into place (respodiff_core/atomic.py): it tells their names as it does.

Run as a script it is `respodiff` that does so, for those that cannot be told what to run first.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

_PORT = "RESPODIFF_TEST_ARRIVALS"
_PATIENCE = 300.0  # seconds without a word from the process, after which something is wrong


class Arrivals:
    """The files that one process puts into place, which must be started with `environment` and `announce` them."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(_PATIENCE)
        self.environment = {_PORT: str(self._server.getsockname()[1])}

    def wait_for(self, pattern: str) -> bool:
        """Wait for the next file with such a name ("*.png"); False if the process ends without.

        Raises TimeoutError where nothing is heard of the process.
        """
        return any(fnmatch(name, pattern) for name in self._names)

    @cached_property
    def _names(self) -> Iterator[str]:
        with self._server:
            connection, _ = self._server.accept()
        connection.settimeout(_PATIENCE)
        return (Path(line.rstrip("\n")).name for line in connection.makefile(encoding="utf-8"))


def announce() -> None:
    """From now on this process tells its files, where a test waits for them; of several on one work, the first does."""
    if _PORT not in os.environ or os.environ.get("RANK", "0") != "0":
        return
    connection = socket.create_connection(("127.0.0.1", int(os.environ[_PORT])))
    connection.setblocking(False)  # not to wait for a test that has heard enough
    replace = os.replace

    def announced(source: str | Path, target: str | Path) -> None:
        replace(source, target)
        with contextlib.suppress(OSError):
            connection.sendall(f"{target}\n".encode())

    os.replace = announced


if __name__ == "__main__":
    from respodiff.trainer.__main__ import main

    announce()
    main()
