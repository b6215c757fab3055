"""Text from files and workflows of strangers, made fit to be shown: in a log, a terminal, a page, a picture."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Iterable

LONGEST = 300
_MOST_LISTED = 20

# Control, format (bidi overrides among them), surrogates, and the separators of lines and paragraphs.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS = frozenset("\u200c\u200d")  # without which Persian and emoji read otherwise; they hide nothing
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")


def plain(text: str, longest: int = LONGEST) -> str:
    """One line of it, at most so many characters: breaks become spaces, what does not show becomes its escape.

    So no text writes over a terminal's lines, adds lines to a log, or turns the direction of what stands around it.
    """
    return _cut("".join(map(_shown, _BREAKS.sub(" ", text[: longest + 1]))), longest)


def quoted(value: object, longest: int = 80) -> str:
    """Any value as Python writes it, cut to so many characters, and to the outer ones of many values in each other."""
    return _cut(repr(value[: longest + 1]) if isinstance(value, str) else reprlib.repr(value), longest)


def listed(names: Iterable[str]) -> str:
    """Names after each other; of very many, the first and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
