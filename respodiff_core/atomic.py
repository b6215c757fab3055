"""Files that are there whole, or not at all."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .unfinished import undone


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name in the same folder to write to; what is there in the end becomes `path`, in one rename.

    Raises OSError as the file system does (a full disk, no permission) and leaves `path` as it was then.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with undone(partial(unfinished.unlink, missing_ok=True)):
        yield unfinished
        with open(unfinished, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. Raises OSError as `replacing` does."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")


def remove_partials(path: Path) -> None:
    """Delete what processes that were killed have left of writing `path`; only where no other writes it now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)


def remove_partials_in(folder: Path) -> None:
    """Delete what killed processes have left of writing any file of a folder; only where no other writes there now."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)
