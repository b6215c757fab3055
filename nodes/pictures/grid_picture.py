"""Arranges images in rows and columns, with labels along the axes of a sweep or below each image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from ...respodiff_core.steering.sweep import Sweep
from .drawing import BACKGROUND, FAINT, as_image, from_image, length, write

_GAP = 8


def along_axes(images: torch.Tensor, sweep: Sweep) -> torch.Tensor:
    """The images (N, height, width, 3) of a sweep: x along the top, y on the left, each concept named once."""
    size = _text_size(images)
    line = round(1.6 * size)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left, top = _GAP, 2 * line + _GAP
    if sweep.y:
        name = length(measure, sweep.y.concept.name, size)
        left = 2 * _GAP + max(name, *(length(measure, label, size) for label in sweep.y.labels))
    canvas, pen, places = _canvas(images, sweep.columns, sweep.rows, left, top, 0)
    width, height = images.shape[2], images.shape[1]
    middle = left + (sweep.columns * (width + _GAP) - _GAP) // 2
    write(pen, (middle, line // 4), sweep.x.concept.name, size, FAINT, anchor="ma", room=canvas.width - 2 * _GAP)
    for column, label in enumerate(sweep.x.labels):
        write(pen, (places[column][0] + width // 2, line + line // 4), label, size, anchor="ma")
    if sweep.y:
        write(pen, (_GAP, line + line // 4), sweep.y.concept.name, size, FAINT)
        for row, label in enumerate(sweep.y.labels):
            write(pen, (left - _GAP, places[row * sweep.columns][1] + height // 2), label, size, anchor="rm")
    return as_image(canvas)


def with_labels(images: torch.Tensor, labels: Sequence[str], columns: int | None = None) -> torch.Tensor:
    """Images (N, height, width, 3), each with its label below, in so many columns, or else in a nearly square grid;
    `labels` may be empty.
    """
    columns = columns or next(count for count in range(1, len(images) + 1) if count * count >= len(images))
    size = _text_size(images)
    below = round(1.6 * size) if any(labels) else 0
    canvas, pen, places = _canvas(images, columns, -(-len(images) // columns), _GAP, _GAP, below)
    width, height = images.shape[2], images.shape[1]
    for (x, y), label in zip(places, labels, strict=False):
        write(pen, (x + width // 2, y + height + below // 6), label, size, anchor="ma", room=width)
    return as_image(canvas)


def _canvas(
    images: torch.Tensor, columns: int, rows: int, left: int, top: int, below: int
) -> tuple[Image.Image, ImageDraw.ImageDraw, list[tuple[int, int]]]:
    """The canvas with all images, a pen for it, and the top left corner of each image."""
    width, height = images.shape[2], images.shape[1]
    right_end = left + columns * (width + _GAP)
    canvas = Image.new("RGB", (right_end, top + rows * (height + below + _GAP)), BACKGROUND)
    places = []
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        places.append((left + column * (width + _GAP), top + row * (height + below + _GAP)))
        canvas.paste(from_image(image), places[-1])
    return canvas, ImageDraw.Draw(canvas), places


def _text_size(images: torch.Tensor) -> int:
    return min(max(images.shape[2] // 16, 14), 48)
