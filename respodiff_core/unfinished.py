"""What must not outlive its process: partial files, temporary folders, servers.

Each is undone when its block ends. Where a process is stopped so abruptly that `finally` does not run to its end,
`undo_all` still knows of it.
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
    """Call `undo` when the block ends; it must bear to be called twice."""
    key = object()
    _undo[key] = undo
    try:
        yield
    finally:
        undo()
        del _undo[key]  # only now: an interrupt may have come before or within `undo`


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder below `parent`, the system's temporary folder if left out; deleted with all that is in it."""
    folder = Path(parent or tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    with undone(partial(shutil.rmtree, folder, ignore_errors=True)):
        folder.mkdir(mode=0o700)  # its name is known before it is there
        yield folder


def undo_all() -> None:
    """Undo whatever is under way, the latest first; errors are passed over, since the process ends."""
    for undo in reversed(list(_undo.values())):
        with suppress(Exception):
            undo()
