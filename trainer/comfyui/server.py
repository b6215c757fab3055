"""A headless ComfyUI server process that writes to one folder only and is always terminated."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...respodiff_core.unfinished import undone
from ..support.interrupts import shielded
from ..support.threads import passive_waiting
from .children import kill_group
from .client import ComfyClient
from .source import ComfySource, ComfyUnavailable

if TYPE_CHECKING:
    from typing import Self

log = logging.getLogger(__name__)

PACK_NAME = "ComfyUI-RespoDiff"
START_TIMEOUT = 180.0  # seconds; loading torch and all built-in nodes from a cold disk takes most of a minute
STOP_TIMEOUT = 10.0  # seconds between SIGTERM and SIGKILL
LOG_TAIL = 30  # lines of server.log in an error message


class ComfyServer(ComfyClient):
    """A ComfyUI on the CPU that writes only below `base_directory`; a context manager.

    `pack` is linked into custom_nodes; `env` extends or overrides the environment.
    """

    def __init__(
        self,
        source: ComfySource,
        base_directory: Path,
        pack: Path | None = None,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(port=0)  # set by start()
        self.source = source
        self.base_directory = base_directory.resolve()
        self.extra_args = tuple(extra_args)
        self.env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = ExitStack()
        for folder in ("custom_nodes", "models", "input", "output", "user", "temp"):
            (self.base_directory / folder).mkdir(parents=True, exist_ok=True)
        if pack is not None:
            self.link_node_pack(pack, PACK_NAME)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError if the server is not running."""
        return self._running().pid

    @property
    def log_path(self) -> Path:
        return self.base_directory / "server.log"

    def log_text(self) -> str:
        """The server's output since its start."""
        return self.log_path.read_text("utf-8", errors="replace") if self.log_path.exists() else ""

    def rss_bytes(self) -> int:
        """Resident memory of the server process (Linux)."""
        pages = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def output_path(self, saved: Mapping[str, str]) -> Path:
        """The path of a file record of a Result ({"filename", "subfolder", "type"})."""
        return self.base_directory / saved["type"] / saved["subfolder"] / saved["filename"]

    def link_node_pack(self, path: Path, name: str) -> None:
        """Link another node pack into custom_nodes, which ComfyUI reads only when it starts."""
        link = self.base_directory / "custom_nodes" / name
        link.unlink(missing_ok=True)
        link.symlink_to(path.resolve(), target_is_directory=True)

    def start(self) -> None:
        """Start and wait until the server responds (5 to 15 s). Raises ComfyUnavailable with the end of the log."""
        if self._process is not None:
            raise RuntimeError("this server has been started already")
        self.port = _free_port()
        began = time.monotonic()
        self._guard.enter_context(undone(self._kill))
        with self.log_path.open("wb") as out, shielded():  # an interrupt here would leave a process running
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.base_directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, so that stop() also ends its children
            )
        atexit.register(self.stop)
        try:
            self._await_ready(began + START_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        log.info("ComfyUI %s responds on %s after %.1f s", self.source.version, self.url, time.monotonic() - began)

    def stop(self) -> None:
        """Terminate the process and its children; kill them after 10 s. Does nothing if the server is not running."""
        if (process := self._process) is None:
            return
        atexit.unregister(self.stop)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.warning("ComfyUI did not exit within %.0f s and is killed", STOP_TIMEOUT)
        self._guard.close()

    def _kill(self) -> None:
        """Kill the process and its children, if any are left."""
        if (process := self._process) is not None:
            kill_group(process)
            self._process = None

    def _command(self) -> list[str]:
        base = self.base_directory
        command = [
            str(self.source.python),
            str(self.source.path / "main.py"),
            "--cpu",
            "--port",
            str(self.port),
        ]
        # --base-directory does not move the database, which would be created in the source tree.
        command += [
            "--base-directory",
            str(base),
            "--database-url",
            f"sqlite:///{base / 'user' / 'comfyui.db'}",
        ]
        return [*command, "--disable-auto-launch", "--disable-api-nodes", *self.extra_args]

    def _environment(self) -> dict[str, str]:
        # Python would write bytecode to the source tree and the pack.
        return {**passive_waiting(), **os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self.env}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this server is not running: call start(), or use it in a with statement")
        return self._process

    def _call(self, request: urllib.request.Request) -> Any:
        process = self._running()
        try:
            return super()._call(request)
        except urllib.error.HTTPError:
            raise
        except OSError:
            if process.poll() is None:
                raise
            raise ComfyUnavailable(self._post_mortem(f"exited with status {process.returncode}")) from None

    def _await_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # not listening yet
                self.get_json("/system_stats")
                return
            time.sleep(0.1)
        raise ComfyUnavailable(self._post_mortem(f"did not respond within {START_TIMEOUT:.0f} s"))

    def _post_mortem(self, what: str) -> str:
        tail = "\n".join(self.log_text().splitlines()[-LOG_TAIL:])
        return f"ComfyUI {self.source.version} {what}; the end of {self.log_path}:\n{tail}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
