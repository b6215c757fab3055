"""Texts of unknown origin (an adapter's metadata, names on the Hub) as they may be shown."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from ...respodiff_core.plain_text import plain

_LONGEST = 400
_SAFE_IN_MARKDOWN = frozenset(" .,;:-+/'\"()?!%=±")


def one_line(text: object) -> str:
    """The text as one line of words, which is not too long and cannot write anywhere else on a screen."""
    return plain(" ".join(str(text).split()), _LONGEST)


def markdown(value: object) -> str:
    """The text itself, in Markdown: all that could be markup is written as character references, which cannot be.

    Markup stands for itself; None is an empty text.
    """
    if isinstance(value, Markup):
        return str(value)
    text = "" if value is None else one_line(value)
    return "".join(c if c.isalnum() or c in _SAFE_IN_MARKDOWN else f"&#{ord(c)};" for c in text)


def code(text: str) -> Markup:
    """In the fixed-width letters of code, where nothing in it would end that."""
    line = one_line(text)
    return Markup(markdown(line) if set(line) & set("`|") else f"`{line}`")


def number(value: Any) -> str:
    """A number as people write it, and anything else as its text."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return str(value)
