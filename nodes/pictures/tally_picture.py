"""Draws a tally as a bar chart: the share of each class, compared with equal shares."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw

from ...respodiff_core.measuring.tally import Tally, deviation_by_chance
from .drawing import BACKGROUND, FAINT, TEXT, Colour, as_image, length, write

_WIDTH = 880
_MARGIN = 28
_GAP = 16
_NAMES = 250  # maximum width of the names
_COUNTS = 130  # width of the counts after a bar
_HEADER = 132
_BAR = 30
_FOOTER = 56
_BAR_COLOUR: Colour = (222, 112, 78)
_TRACK: Colour = (42, 45, 51)


def draw(tally: Tally) -> torch.Tensor:
    """The chart as a ComfyUI IMAGE (1, height, width, 3), values in 0..1. The tally must count at least one image."""
    steered = any(tally.requested)
    row = _BAR + (44 if steered else 18)
    bottom = _HEADER + len(tally.classes) * row
    canvas = Image.new("RGB", (_WIDTH, bottom + _FOOTER), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    _header(pen, tally)
    left = _MARGIN + _GAP + min(_NAMES, max(length(pen, name, 20) for name in tally.classes))
    right = _WIDTH - _MARGIN - _COUNTS
    even = left + round((right - left) / len(tally.classes))
    for number, share in enumerate(tally.shares):
        y = _HEADER + number * row
        write(pen, (left - _GAP, y + _BAR // 2), tally.classes[number], 20, anchor="rm", room=left - _GAP - _MARGIN)
        pen.rectangle((left, y, right, y + _BAR), fill=_TRACK)
        if share:
            pen.rectangle((left, y, left + round(share * (right - left)), y + _BAR), fill=_BAR_COLOUR)
        write(pen, (right + _GAP, y + _BAR // 2), f"{tally.seen[number]}  ({share:.0%})", 20, anchor="lm")
        pen.line((even, y - 5, even, y + _BAR + 5), fill=TEXT, width=2)
        if steered:
            write(pen, (left, y + _BAR + 8), _requested(tally, number), 16, FAINT)
    write(pen, (left, bottom + 8), f"line: equal share, {1 / len(tally.classes):.0%}", 16, FAINT)
    return as_image(canvas)


def _header(pen: ImageDraw.ImageDraw, tally: Tally) -> None:
    room = _WIDTH - 2 * _MARGIN
    counted = f"{tally.images} images" if tally.images > 1 else "1 image"
    write(pen, (_MARGIN, 20), f"Classes of {counted} according to CLIP", 24, room=room)
    chance = deviation_by_chance(tally.images, len(tally.classes))
    figures = [f"deviation ratio {tally.deviation_ratio:.2f}", f"(by chance {chance:.2f})"]
    if tally.worst is None:
        figures += ["", "no class was requested"]
    else:
        name, figure = tally.worst
        figures += [f"steering accuracy {figure:.2f}", f"(lowest, {name})"]
    x = _MARGIN
    for text, colour in zip(figures, (TEXT, FAINT, TEXT, FAINT), strict=True):
        write(pen, (x, 70), text, 18, colour, room=_WIDTH - _MARGIN - x)
        x += length(pen, text, 18) + (8 if colour == TEXT else 28)


def _requested(tally: Tally, number: int) -> str:
    requested = tally.requested[number]
    if not requested:
        return "not requested"
    return f"requested {requested} times, recognised {tally.counts[number][number]} times"
