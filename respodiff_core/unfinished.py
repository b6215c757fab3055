"""Cleanup of what must not outlive its process: partial files, temporary folders, servers.

Each is cleaned up at the end of its block. If the process is stopped so abruptly that `finally` does not complete,
`undo_all` cleans up the rest.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

_undo: dict[object, Callable[[], object]] = {}


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` at the end of the block. It must be safe to call twice."""
    key = object()
    _undo[key] = undo
    try:
        yield
    finally:
        undo()
        del _undo[key]  # not earlier: an interrupt may occur before or within `undo`


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder in `parent` (default: the system's temporary folder), deleted with its contents at the end."""
    folder = Path(parent or tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    with undone(partial(shutil.rmtree, folder, ignore_errors=True)):
        folder.mkdir(mode=0o700)  # registered for cleanup before it exists
        yield folder


def undo_all() -> None:
    """Clean up everything still open, latest first. Errors are ignored, since the process is ending."""
    for undo in reversed(list(_undo.values())):
        with suppress(Exception):
            undo()
