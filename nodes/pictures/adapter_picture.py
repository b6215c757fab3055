"""Draws where, and how strongly, concepts act: one card per concept, in 1 to 4 columns. RAM and SAM are maps of the
image, contrast concepts are bars over the cross-attention layers.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.concept import Concept, ModuleConcept
from ...respodiff_core.adapter.summary import rms_map, site_sizes
from ...respodiff_core.adapter.transforms import Transform
from .drawing import BACKGROUND, FAINT, as_image, length, write
from .site_bars import draw_sites

_MAP = 232
_GAP = 20
_MARGIN = 28
_TEXTS = 92  # height of the text above the maps of a card
_CARD = (2 * _MAP + _GAP, _TEXTS + _MAP)
_BETWEEN = 40  # between cards
_HEADER = 64
_FOOTER = 84
_MOST_CONCEPTS = 24
_COLUMNS = ((2, 1), (6, 2), (12, 3), (_MOST_CONCEPTS, 4))  # (maximum number of concepts, columns)

# From dark to light in even steps of lightness, so that it is also readable in greyscale.
_COLOURS = np.array(
    [
        (16, 18, 48),
        (60, 28, 102),
        (116, 38, 116),
        (172, 50, 104),
        (222, 82, 80),
        (248, 138, 74),
        (252, 198, 110),
        (252, 250, 200),
    ],
    dtype=np.float32,
)


def draw(adapter: Adapter) -> torch.Tensor:
    """The drawing as a ComfyUI IMAGE (1, height, width, 3), values in 0..1, with one colour scale for all maps."""
    concepts = list(adapter.concepts.values())
    shown = concepts[:_MOST_CONCEPTS]
    maps = [map_of for concept in shown for _, _, map_of in _modules(concept) if map_of is not None]
    peak = max((float(one.max()) for one in maps), default=0.0)
    columns = next(columns for most, columns in _COLUMNS if len(shown) <= most)
    rows = -(-len(shown) // columns)
    width = 2 * _MARGIN + columns * (_CARD[0] + _BETWEEN) - _BETWEEN
    height = _HEADER + rows * (_CARD[1] + _BETWEEN) - _BETWEEN + _FOOTER
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    title = adapter.source
    if len(concepts) > len(shown):
        title += f" (the first {len(shown)} of {len(concepts)} concepts)"
    write(pen, (_MARGIN, 20), title, 24, room=width - 2 * _MARGIN)
    for index, concept in enumerate(shown):
        row, column = divmod(index, columns)
        at = (_MARGIN + column * (_CARD[0] + _BETWEEN), _HEADER + row * (_CARD[1] + _BETWEEN))
        _card(canvas, pen, at, concept, peak)
    if maps or any(_modules(concept) for concept in shown):
        _scale(canvas, pen, _MARGIN, height - _FOOTER + 24, width - 2 * _MARGIN, peak)
    else:
        text = "how strongly each cross-attention layer is changed, at strength 1"
        write(pen, (width // 2, height - _FOOTER + 24), text, 17, FAINT, anchor="ma")
    return as_image(canvas)


def _card(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    concept: Concept,
    peak: float,
) -> None:
    x, y = at
    info = concept.info
    kind = f"{info.category}, {concept.kind}"
    write(pen, (x + _CARD[0], y + 6), kind, 17, FAINT, anchor="ra")
    write(pen, (x, y), info.name, 22, room=_CARD[0] - length(pen, kind, 17) - _GAP)
    prompts = " from ".join(f"“{text}”" for text in (info.target, info.neutral) if text)
    write(pen, (x, y + 32), prompts, 17, FAINT, room=_CARD[0])
    if sizes := site_sizes(concept):
        draw_sites(pen, (x, y + 62), (_CARD[0], _CARD[1] - 62), sizes)
    for column, (name, module, values) in enumerate(_modules(concept)):
        left = x + column * (_MAP + _GAP)
        write(pen, (left, y + 62), name, 18)
        if values is not None:
            rms = f"rms {values.square().mean().sqrt():.3g}"
            write(pen, (left + _MAP, y + 63), rms, 17, FAINT, anchor="ra")
        _map(canvas, pen, (left, y + _TEXTS), module, values, peak)


def _modules(concept: Concept) -> tuple[tuple[str, Transform, torch.Tensor | None], ...]:
    """Name, module and map (None if it depends on h) of RAM and SAM, if the concept has them."""
    if not isinstance(concept, ModuleConcept):
        return ()
    return tuple((name, one, rms_map(one)) for name, one in (("RAM", concept.ram), ("SAM", concept.sam)))


def _map(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    module: Transform,
    values: torch.Tensor | None,
    peak: float,
) -> None:
    if values is None:
        pen.rectangle((*at, at[0] + _MAP - 1, at[1] + _MAP - 1), outline=FAINT)
        middle = at[0] + _MAP // 2
        write(pen, (middle, at[1] + _MAP // 2 - 22), module.kind, 18, anchor="ma")
        write(pen, (middle, at[1] + _MAP // 2 + 4), "depends on the image", 17, FAINT, anchor="ma")
        return
    pixels = Image.fromarray(_coloured(values.numpy() / (peak or 1.0)))
    canvas.paste(pixels.resize((_MAP, _MAP), Image.Resampling.NEAREST), at)


def _scale(canvas: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, width: int, peak: float) -> None:
    ramp = np.linspace(0.0, 1.0, width, dtype=np.float32)[None].repeat(14, axis=0)
    canvas.paste(Image.fromarray(_coloured(ramp)), (x, y))
    write(pen, (x, y + 22), "0", 17, FAINT)
    write(pen, (x + width, y + 22), f"{peak:.3g}", 17, FAINT, anchor="ra")
    write(pen, (x + width // 2, y + 22), "root mean square over channels, at strength 1", 17, FAINT, anchor="ma")


def _coloured(values: np.ndarray) -> np.ndarray:
    """Values in 0..1, shape (height, width), as RGB bytes (height, width, 3)."""
    places = np.linspace(0.0, 1.0, len(_COLOURS))
    channels = [np.interp(values, places, _COLOURS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
