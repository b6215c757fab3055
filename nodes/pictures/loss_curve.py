"""Draws the losses of RAM and SAM over the steps of a training."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw

from .drawing import BACKGROUND, FAINT, TEXT, Colour, as_image, write

_SIZE = (880, 480)
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 852, 84, 416
_COLOURS: tuple[tuple[str, Colour], ...] = (("RAM", (222, 112, 78)), ("SAM", (96, 160, 224)))
_GRID: Colour = (42, 45, 51)
_POINTS = 150  # of the smoothed curve


def draw(losses: torch.Tensor, title: str) -> torch.Tensor:
    """The chart of losses (steps, 2) as a ComfyUI IMAGE (1, height, width, 3), values in 0..1, on a logarithmic scale.

    Each point is the mean over equally many steps; the losses of single steps vary with their noise levels.
    """
    canvas = Image.new("RGB", _SIZE, BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    write(pen, (_LEFT, 24), title, 24, room=_SIZE[0] - 300)
    for number, (name, colour) in enumerate(_COLOURS):
        write(pen, (_RIGHT - 120 * (len(_COLOURS) - 1 - number), 28), name, 20, colour, anchor="ra")
    every = max(len(losses) // _POINTS, 1)
    means = torch.stack([part.mean(dim=0) for part in losses.float().split(every)]).clamp_min(1e-12).log10()
    low, high = float(means.min()), float(means.max())
    low, high = (low, high) if high - low > 0.1 else (low - 0.05, high + 0.05)

    def x(step: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * step / max(len(losses), 1)

    def y(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)

    for part in range(5):
        value = low + (high - low) * part / 4
        pen.line((_LEFT, y(value), _RIGHT, y(value)), fill=_GRID, width=1)
        write(pen, (_LEFT - 12, round(y(value))), f"{10**value:.2g}", 16, FAINT, anchor="rm")
        step = round(len(losses) * part / 4)
        write(pen, (round(x(step)), _BOTTOM + 12), str(step), 16, FAINT, anchor="ma")
    write(pen, (_LEFT + (_RIGHT - _LEFT) // 2, _BOTTOM + 36), "step", 16, TEXT, anchor="ma")
    for column, (_, colour) in enumerate(_COLOURS):
        points = [(x((place + 0.5) * every), y(float(value))) for place, value in enumerate(means[:, column])]
        if len(points) > 1:
            pen.line(points, fill=colour, width=3, joint="curve")
        else:
            pen.ellipse((points[0][0] - 4, points[0][1] - 4, points[0][0] + 4, points[0][1] + 4), fill=colour)
    return as_image(canvas)
