"""Atomic writing of files: a file is complete, or does not exist."""

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
    """A temporary path in the same folder to write to. At the end of the block it is renamed to `path`.

    Raises OSError from the file system (disk full, no permission) and leaves `path` unchanged then.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with undone(partial(unfinished.unlink, missing_ok=True)):
        yield unfinished
        with open(unfinished, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically. Raises OSError like `replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")


def remove_partials(path: Path) -> None:
    """Delete partial files of `path` left by killed processes. No other process may be writing it now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)


def remove_partials_in(folder: Path) -> None:
    """Delete all partial files in a folder left by killed processes. No other process may be writing there now."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)
