"""Safe display of untrusted texts (an adapter's metadata, names on the Hub)."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from ...respodiff_core.plain_text import plain

_LONGEST = 400
_SAFE_IN_MARKDOWN = frozenset(" .,;:-+/'\"()?!%=±")


def one_line(text: object) -> str:
    """The text as one line of limited length, without control characters."""
    return plain(" ".join(str(text).split()), _LONGEST)


def markdown(value: object) -> str:
    """The text escaped for Markdown: characters that could be markup become character references.

    Markup is returned unchanged; None is an empty text.
    """
    if isinstance(value, Markup):
        return str(value)
    text = "" if value is None else one_line(value)
    return "".join(c if c.isalnum() or c in _SAFE_IN_MARKDOWN else f"&#{ord(c)};" for c in text)


def code(text: str) -> Markup:
    """The text as Markdown code, or only escaped if it contains a backtick or a pipe."""
    line = one_line(text)
    return Markup(markdown(line) if set(line) & set("`|") else f"`{line}`")


def number(value: Any) -> str:
    """A finite float in short notation, anything else as text."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return str(value)
