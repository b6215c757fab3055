"""One process at a time writes to an output."""

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
    """Hold `folder`, which is made if need be, for this process; the system lets go of it however the process ends.

    Raises RespoDiffError where another process holds it; `work` says what that one does.
    """
    if folder.is_file():
        raise RespoDiffError(f"{folder} is a file: name another output.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = FileLock(path)

    def let_go() -> None:
        if lock.is_locked:
            with suppress(OSError):  # Windows keeps open files, and a disk may have become read-only
                path.unlink()  # before letting go of it, so that whoever comes now makes a new one
            lock.release()
        with suppress(OSError):  # it is not empty
            folder.rmdir()

    with undone(let_go):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RespoDiffError(
                f"Another process is {work} in {folder}. Wait until it has ended, stop it, or name another output."
            ) from None
        yield
