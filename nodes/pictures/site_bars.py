"""Draws how strongly a concept acts at each cross-attention layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from PIL import ImageDraw

from .drawing import FAINT, Colour, write

_BAR: Colour = (222, 82, 80)
_LINE: Colour = (70, 74, 82)
_LABELS = 24


def draw_sites(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], size: tuple[int, int], sizes: Mapping[str, float]
) -> None:
    """Draw one bar per site from left to right, in the order in which they run; the highest fills the height."""
    (x, y), (width, height) = at, size
    peak = max(sizes.values()) or 1.0
    write(pen, (x + width, y), f"largest {peak:.3g}", 17, FAINT, anchor="ra")
    top, base = y + _LABELS, y + height - _LABELS
    each = width / len(sizes)
    for number, value in enumerate(sizes.values()):
        left, right = x + each * number, x + each * (number + 1) - max(each / 5, 1)
        pen.rectangle((left, base - (base - top) * value / peak, max(right, left), base), fill=_BAR)
    pen.line((x, base, x + width, base), fill=_LINE)
    number = 0
    for kind, of_kind in groupby(sizes, key=lambda site: site.partition(".")[0]):
        count = len(list(of_kind))
        left = x + each * number
        pen.line((left, base, left, base + 8), fill=_LINE)
        write(pen, (int(left) + 4, base + 4), kind, 15, FAINT, room=max(int(each * count) - 6, 20))
        number += count
