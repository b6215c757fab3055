"""A lock for output folders: only one process at a time writes to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.unfinished import undone

LOCK = ".lock"


@contextmanager
def sole_writer(folder: Path, work: str) -> Iterator[None]:
    """Lock `folder`, created if needed, for this process; the system releases the lock however the process ends.

    Raises RespoDiffError if another process holds the lock; `work` is what that process does, for the message.
    """
    if folder.is_file():
        raise RespoDiffError(f"{folder} is a file: name another output.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = FileLock(path)

    def release() -> None:
        if lock.is_locked:
            with suppress(OSError):  # Windows keeps open files, and the disk may have become read-only
                path.unlink()  # before releasing it, so that the next process creates a new one
            lock.release()
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()

    with undone(release):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RespoDiffError(
                f"Another process is {work} in {folder}. Wait until it has ended, stop it, or name another output."
            ) from None
        yield
