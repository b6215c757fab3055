"""Sheets of labelled images, for training previews and the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...respodiff_core.atomic import replacing

BACKGROUND, INK, FAINT = (24, 26, 30), (232, 234, 237), (154, 160, 166)
GAP = 8


def pixels(image: torch.Tensor) -> np.ndarray:
    """Convert (3, height, width) in [0, 1] to (height, width, 3) uint8."""
    return (image.clamp(0, 1).movedim(0, -1) * 255).round().byte().cpu().numpy()


def draw(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], columns: Sequence[str], size: int, title: str = ""
) -> Image.Image:
    """Images (height, width, 3), resized to width `size`, in rows with a label at the left, under column labels."""
    font_size = max(13, size // 9)
    font = ImageFont.load_default(font_size)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = max([0, *(int(measure.textlength(label, font)) for label, _ in rows)]) + 2 * GAP
    line = 2 * GAP + font_size
    top = line * (2 if title else 1)
    height = max(round(size * rows[0][1][0].shape[0] / rows[0][1][0].shape[1]), 1)
    width = left + len(columns) * (size + GAP)
    if title:
        width = max(width, int(measure.textlength(title, font)) + 3 * GAP)
    sheet = Image.new("RGB", (width, top + len(rows) * (height + GAP)), BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    if title:
        canvas.text((2 * GAP, line // 2), title, INK, font, anchor="lm")
    for number, label in enumerate(columns):
        x = left + number * (size + GAP)
        canvas.text((x + size // 2, top - line // 2), label, FAINT, font, anchor="mm")
    for index, (label, images) in enumerate(rows):
        y = top + index * (height + GAP)
        canvas.text((left - GAP, y + height // 2), label, INK, font, anchor="rm")
        for number, image in enumerate(images):
            tile = Image.fromarray(image).resize((size, height), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left + number * (size + GAP), y))
    return sheet


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        image.save(partial, format="PNG")
