"""Renders ToyWorld scenes deterministically: flat figures from signed distance functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .scenes import OUTFITS, PERSON, PLAIN, PROFESSIONS, Outfit, Scenes

SIZE = 64  # height and width in pixels

Field = torch.Tensor  # signed distances, (..., SIZE, SIZE), negative inside

_HUE_RGB = ((0.93, 0.70, 0.30), (0.25, 0.68, 0.66), (0.62, 0.45, 0.85))
_PLACE_RGB = (  # top, bottom
    ((0.80, 0.82, 0.85), (0.70, 0.72, 0.75)),
    ((0.62, 0.82, 0.95), (0.45, 0.72, 0.38)),
    ((0.55, 0.80, 0.96), (0.93, 0.85, 0.62)),
    ((0.42, 0.40, 0.48), (0.30, 0.28, 0.34)),
    ((0.52, 0.42, 0.34), (0.36, 0.28, 0.22)),
)
_CLOTH = {  # colour of the cloth, colour of pattern and hat
    "white": ((0.97, 0.97, 0.97), (0.85, 0.25, 0.25)),
    "blue": ((0.20, 0.35, 0.70), (0.95, 0.85, 0.35)),
    "brown": ((0.50, 0.33, 0.18), (0.92, 0.82, 0.60)),
    "green": ((0.20, 0.50, 0.28), (0.88, 0.93, 0.85)),
    "black": ((0.16, 0.16, 0.20), (0.80, 0.80, 0.84)),
    "red": ((0.72, 0.16, 0.22), (0.98, 0.80, 0.82)),
    "grey": ((0.58, 0.58, 0.60), (0.40, 0.40, 0.44)),
}
_TOOL_RGB = (0.10, 0.10, 0.12)
_INK = (0.08, 0.08, 0.10)
_HAZARD_RGB = ((0.98, 0.82, 0.10), (0.85, 0.10, 0.12))

_Y, _X = torch.meshgrid(torch.arange(SIZE) - SIZE / 2 + 0.5, torch.arange(SIZE) - SIZE / 2 + 0.5, indexing="ij")


def outfit(profession: int) -> Outfit:
    """The outfit of a profession (index); PERSON has a plain one."""
    return PLAIN if profession == PERSON else OUTFITS[PROFESSIONS[profession]]


@dataclass(frozen=True)
class Layer:
    """A layer of images: the opacity of each pixel of a window, (count, rows, columns, 1) in 0..1, and the colour, (3,)
    or (count, 1, 1, 3).
    """

    cover: torch.Tensor
    rgb: torch.Tensor
    window: tuple[slice, slice]


def render(scenes: Scenes) -> torch.Tensor:
    """Images (count, 3, 64, 64) in [-1, 1], as AutoencoderKL takes them."""
    return paint(scenes, layers(scenes))


def paint(scenes: Scenes, layers: Sequence[Layer]) -> torch.Tensor:
    """Composite layers over the places of the scenes and apply their light: images (count, 3, 64, 64) in [-1, 1]."""
    count = len(scenes)
    down = torch.linspace(0, 1, SIZE).view(1, SIZE, 1, 1)
    above, below = torch.tensor(_PLACE_RGB)[torch.as_tensor(scenes.place)].unbind(1)
    image = above.view(count, 1, 1, 3) * (1 - down) + below.view(count, 1, 1, 3) * down
    image = image.expand(count, SIZE, SIZE, 3).clone()
    for layer in layers:
        part = image[(slice(None), *layer.window)]
        part += (layer.rgb - part).mul_(layer.cover)
    light = _column(scenes.light).unsqueeze(-1).float()
    return (image * light).clamp(0, 1).movedim(-1, 1) * 2 - 1


def layers(scenes: Scenes) -> list[Layer]:
    """The layers over the places of these scenes, from back to front, without light."""
    x = _X - _column(scenes.dx)
    y = _Y - _column(scenes.dy)
    outfits = [outfit(int(p)) for p in scenes.profession]
    cloth = torch.tensor([_CLOTH[o.colour][0] for o in outfits])
    trim = torch.tensor([_CLOTH[o.colour][1] for o in outfits])
    skin = torch.tensor(_HUE_RGB)[torch.as_tensor(scenes.hue)]

    torso = box(x, y, 0, 14, 12, 13, corner=4)
    square = _column(scenes.shape) == 1
    head = torch.where(square, box(x, y, 0, -9, 8.3, 8.6, corner=1), disc(x, y, 0, -9, 9.4))
    hazard = torch.where(_column(scenes.hazard) == 1, _star(_X, _Y), _FAR)
    fields: list[tuple[Field, torch.Tensor | tuple[float, ...]]] = [
        (torso, cloth),
        (torch.maximum(torso + 1, _choose(_PATTERNS, [o.pattern for o in outfits], x, y)), trim),
        (torch.minimum(disc(x, y, -15.5, 15, 3), disc(x, y, 15.5, 15, 3)), skin),
        (head, skin),
        (torch.minimum(disc(x, y, -3.3, -9, 1.2), disc(x, y, 3.3, -9, 1.2)), _INK),
        (_choose(_TOOLS, [o.tool for o in outfits], x, y), _TOOL_RGB),
        (_choose(_HATS, [o.hat for o in outfits], x, y), trim),
        (hazard, _HAZARD_RGB[0]),
        (hazard + 3.0, _HAZARD_RGB[1]),
    ]
    return [_layer(field, colour) for field, colour in fields]


def box(x: Field, y: Field, cx: float, cy: float, half_width: float, half_height: float, corner: float = 0.0) -> Field:
    """Signed distance to a rectangle with rounded corners."""
    qx = (x - cx).abs() - half_width + corner
    qy = (y - cy).abs() - half_height + corner
    outside = torch.hypot(qx.clamp(min=0), qy.clamp(min=0))
    return outside + torch.maximum(qx, qy).clamp(max=0) - corner


def disc(x: Field, y: Field, cx: float, cy: float, radius: float) -> Field:
    """Signed distance to a disc."""
    return torch.hypot(x - cx, y - cy) - radius


_FAR = torch.tensor(99.0)
_PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "plain": lambda x, y: torch.full_like(x + y, 99.0),
    "stripes": lambda x, y: ((x + 3) % 6 - 3).abs() - 1.1 + 0 * y,
    "buttons": lambda x, y: torch.hypot(x, (y - 14 + 3) % 6 - 3) - 1.6,
    "cross": lambda x, y: torch.minimum(box(x, y, 0, 13, 2, 6), box(x, y, 0, 13, 6, 2)),
    "halves": lambda x, y: 15 - y + 0 * x,
}
_HATS: dict[str, Callable[[Field, Field], Field]] = {
    "none": _PATTERNS["plain"],
    "cap": lambda x, y: torch.minimum(box(x, y, 0, -18, 8, 2.5, 2), box(x, y, 6, -16.3, 6, 0.9)),
    "tall": lambda x, y: box(x, y, 0, -20.5, 6.5, 5.5, 2),
    "brim": lambda x, y: torch.minimum(box(x, y, 0, -16.2, 13, 1.1), box(x, y, 0, -19, 6, 3.5, 2)),
    "cone": lambda x, y: torch.maximum(x.abs() * 0.87 - (y + 27) * 0.5, y + 15.5),
}
_TOOLS: dict[str, Callable[[Field, Field], Field]] = {
    "none": _PATTERNS["plain"],
    "staff": lambda x, y: box(x, y, 20, 10, 1.2, 17),
    "disc": lambda x, y: disc(x, y, 22, 20, 4.5),
    "case": lambda x, y: torch.minimum(box(x, y, 22, 21, 5, 4, 1), box(x, y, 22, 16, 2, 1.5)),
}


def _star(x: Field, y: Field) -> Field:
    x, y = x + 22, y + 21
    return torch.hypot(x, y) - 6.5 - 1.8 * torch.cos(8 * torch.atan2(y, x))


def _choose(drawings: dict[str, Callable[[Field, Field], Field]], names: list[str], x: Field, y: Field) -> Field:
    result = torch.empty_like(x + y)
    for name in set(names):
        rows = torch.tensor([i for i, n in enumerate(names) if n == name])
        result[rows] = drawings[name](x[rows], y[rows])
    return result


def _layer(field: Field, colour: torch.Tensor | tuple[float, ...]) -> Layer:
    """A layer of a colour (3,) or (count, 3) where the field is negative, with an edge one pixel wide."""
    cover = (0.5 - field).clamp_(0, 1)
    # Most layers cover a small part of the image; only that part is composited.
    touched = cover.amax(0) > 0
    window = _span(touched.any(1)), _span(touched.any(0))
    rgb = torch.as_tensor(colour)
    rgb = rgb.view(-1, 1, 1, 3) if rgb.dim() == 2 else rgb
    return Layer(cover[(slice(None), *window)].unsqueeze(-1), rgb, window)


def _span(touched: torch.Tensor) -> slice:
    """The range from the first to the last True."""
    places = touched.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(values).view(-1, 1, 1)
