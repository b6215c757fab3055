"""Text, colours and conversions for the images that nodes draw."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...respodiff_core.plain_text import plain

Colour = tuple[int, int, int]

BACKGROUND: Colour = (24, 26, 30)
TEXT: Colour = (232, 234, 237)
FAINT: Colour = (172, 177, 186)


def write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: Colour = TEXT,
    anchor: str = "la",
    room: int | None = None,
) -> None:
    """Write the text on one line, truncated to `room` pixels."""
    text = plain(text)
    if room is not None and length(pen, text, size) > room:
        kept = bisect_left(range(1, len(text)), True, key=lambda end: length(pen, text[:end] + "…", size) > room)
        text = text[:kept] + "…"
    pen.text(at, text, fill=colour, font=_font(size), anchor=anchor)


def length(pen: ImageDraw.ImageDraw, text: str, size: int) -> int:
    """Width in pixels of the text on one line."""
    return int(pen.textlength(plain(text), font=_font(size)))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def as_image(canvas: Image.Image) -> torch.Tensor:
    """A PIL image as a ComfyUI IMAGE, (1, height, width, 3), values in 0..1."""
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)[None]


def from_image(image: torch.Tensor) -> Image.Image:
    """One image of a ComfyUI IMAGE, (height, width, channels), values in 0..1, as a PIL image."""
    pixels = (image[..., :3].float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.numpy())
