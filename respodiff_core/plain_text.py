"""Sanitises text from untrusted files and workflows for display in logs, terminals, pages and images."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Iterable

LONGEST = 300
_MOST_LISTED = 20

# Control, format (including bidirectional overrides), surrogate, line separator, paragraph separator.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS = frozenset("\u200c\u200d")  # needed for Persian and emoji, and harmless
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")


def plain(text: str, longest: int = LONGEST) -> str:
    """The text as one line of at most `longest` characters: line breaks become spaces, hidden characters are escaped.

    It cannot overwrite lines in a terminal, add lines to a log, or change the direction of the surrounding text.
    """
    return _cut("".join(map(_shown, _BREAKS.sub(" ", text[: longest + 1]))), longest)


def quoted(value: object, longest: int = 80) -> str:
    """The `repr` of a value, truncated to `longest` characters; large collections are abbreviated."""
    return _cut(repr(value[: longest + 1]) if isinstance(value, str) else reprlib.repr(value), longest)


def listed(names: Iterable[str]) -> str:
    """The names separated by commas. Of more than 20, only the first 20 and the number of the others."""
    names = list(names)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
