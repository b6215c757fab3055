"""Draw icon.png and banner.png: the U of a UNet, a dot for its middle block, and four equal strands from it.

Run after a change: python tools/draw_brand.py (needs only Pillow). The sizes follow the Comfy Registry: a square icon
of at most 400 pixels, a banner of 21:9.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parents[1] / "docs" / "images"
ICON = 400
BANNER = (1680, 720)

NIGHT, EDGE, PAPER, QUIET = "#161a2b", "#343b5c", "#f4f5fa", "#aeb6d2"
# Okabe and Ito's colours, which colour-blind people can distinguish.
STRANDS = ("#56b4e9", "#e69f00", "#2fbf8f", "#e58ac0")

_SCALE = 4  # supersampling: Pillow draws lines without antialiasing

Point = tuple[float, float]


class Canvas:
    """Drawing functions with coordinates in pixels of the final image."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._image = Image.new("RGBA", (width * _SCALE, height * _SCALE))
        self._draw = ImageDraw.Draw(self._image)

    def tile(self, box: tuple[float, float, float, float], radius: float, colour: str, edge: str, width: float) -> None:
        scaled = [side * _SCALE for side in box]
        self._draw.rounded_rectangle(scaled, radius * _SCALE, colour, edge, round(width * _SCALE))

    def dot(self, at: Point, radius: float, colour: str) -> None:
        x, y, r = at[0] * _SCALE, at[1] * _SCALE, radius * _SCALE
        self._draw.ellipse((x - r, y - r, x + r, y + r), colour)

    def stroke(self, points: list[Point], width: float, colour: str) -> None:
        """A line with round ends, drawn as overlapping dots."""
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            steps = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) * _SCALE))
            for step in range(steps + 1):
                part = step / steps
                self.dot((x0 + (x1 - x0) * part, y0 + (y1 - y0) * part), width / 2, colour)

    def text(self, at: Point, words: str, size: float, colour: str) -> None:
        self._draw.text((at[0] * _SCALE, at[1] * _SCALE), words, colour, ImageFont.load_default(size * _SCALE), "ls")

    def finished(self) -> Image.Image:
        return self._image.resize(self.size, Image.Resampling.LANCZOS)


def logo(canvas: Canvas, left: float, top: float, side: float) -> None:
    """The logo in a square of that side length."""

    def at(x: float, y: float) -> Point:
        return left + x * side, top + y * side

    reach, bottom = 0.31, 0.56
    arc = [math.pi * step / 60 for step in range(61)]
    bowl = [at(0.5 - reach * math.cos(angle), bottom + reach * math.sin(angle)) for angle in arc]
    canvas.stroke([at(0.5 - reach, 0.19), *bowl, at(0.5 + reach, 0.19)], 0.092 * side, PAPER)

    dot = (0.5, bottom + reach)
    canvas.dot(at(*dot), 0.115 * side, NIGHT)
    canvas.dot(at(*dot), 0.083 * side, PAPER)
    for number, colour in enumerate(STRANDS):
        place = number - (len(STRANDS) - 1) / 2
        angle = math.radians(19 * place)
        begin, bend = (_from(dot, angle, distance) for distance in (0.19, 0.36))
        end = 0.5 + 0.11 * place
        strand = [_bezier(begin, bend, (end, 0.45), (end, 0.2), step / 40) for step in range(41)]
        canvas.stroke([at(*point) for point in strand], 0.055 * side, colour)


def icon() -> Image.Image:
    canvas = Canvas(ICON, ICON)
    canvas.tile((0, 0, ICON - 1, ICON - 1), 88, NIGHT, EDGE, 4)
    logo(canvas, 14, -4, 372)
    return canvas.finished()


def banner() -> Image.Image:
    width, height = BANNER
    canvas = Canvas(width, height)
    canvas.tile((0, 0, width, height), 0, NIGHT, NIGHT, 0)
    logo(canvas, 90, 120, 480)
    canvas.text((640, 345), "RespoDiff", 170, PAPER)
    canvas.text((648, 440), "fairness and safety for Stable Diffusion", 48, QUIET)
    for number, colour in enumerate(STRANDS):
        start = 656 + number * 216
        canvas.stroke([(start, 510), (start + 180, 510)], 14, colour)
    return canvas.finished().convert("RGB")


def _from(start: Point, angle: float, distance: float) -> Point:
    """The point at `distance` from `start`, at `angle` to the right of straight up."""
    return start[0] + distance * math.sin(angle), start[1] - distance * math.cos(angle)


def _bezier(a: Point, b: Point, c: Point, d: Point, part: float) -> Point:
    rest = 1 - part
    weights = (rest**3, 3 * rest**2 * part, 3 * rest * part**2, part**3)
    x, y = (sum(weight * point[axis] for weight, point in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
    return x, y


if __name__ == "__main__":
    icon().save(FOLDER / "icon.png", optimize=True)
    banner().save(FOLDER / "banner.png", optimize=True)
