"""Names of files that workflows, also those of strangers, ask to be read or written."""

from __future__ import annotations

import re

from ...respodiff_core.plain_text import plain

_UNSAFE = frozenset(':*?"<>|')  # not in a name on every system
_LONGEST = 1000  # bytes of a whole name: the folder that it is in needs some of a path's 4096 as well


def shows(name: object) -> bool:
    """Whether it is a text in which nothing is hidden: no control characters, no turns of direction."""
    return isinstance(name, str) and name == plain(name, len(name))


def stays_below(name: str) -> bool:
    """Whether a folder's file of that name is in the folder or below it, as far as names tell."""
    parts = _parts(name)
    return bool(name) and parts[0] != "" and ".." not in parts


def can_be_written(name: str, longest: int) -> bool:
    """Whether every system can keep a file of that name; `longest` as in `fits`."""
    return fits(name, longest) and all(part and not _UNSAFE & set(part) for part in _parts(name))


def fits(name: str, longest: int) -> bool:
    """Whether no part of the name has more bytes than that, and the whole is no longer than file systems allow."""
    return len(name.encode()) <= _LONGEST and all(len(part.encode()) <= longest for part in _parts(name))


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]", name)
