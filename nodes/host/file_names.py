"""Checks of file names to read or write that come from workflows, including untrusted ones."""

from __future__ import annotations

import re

from ...respodiff_core.plain_text import plain

_UNSAFE = frozenset(':*?"<>|')  # not allowed in file names on every system
_LONGEST = 1000  # bytes of the whole name; the path of its folder counts towards the limit of 4096 as well


def shows(name: object) -> bool:
    """Whether it is a string without hidden characters (control characters, bidirectional overrides)."""
    return isinstance(name, str) and name == plain(name, len(name))


def stays_below(name: str) -> bool:
    """Whether a path relative to a folder stays in that folder, judged by the name alone."""
    parts = _parts(name)
    return bool(name) and parts[0] != "" and ".." not in parts


def can_be_written(name: str, longest: int) -> bool:
    """Whether the name is valid on every operating system; `longest` as in `fits`."""
    return fits(name, longest) and all(part and not _UNSAFE & set(part) for part in _parts(name))


def fits(name: str, longest: int) -> bool:
    """Whether every part of the name has at most `longest` bytes, and the whole is short enough for file systems."""
    return len(name.encode()) <= _LONGEST and all(len(part.encode()) <= longest for part in _parts(name))


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]", name)
