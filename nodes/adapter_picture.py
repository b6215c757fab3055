"""Draws where in space and how strongly RAM and SAM act, per concept."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..respodiff_core.adapter import Adapter
from ..respodiff_core.concept import Concept
from ..respodiff_core.summary import rms_map
from ..respodiff_core.transforms import Transform

_MAP = 176
_GAP = 24
_LABELS = 260
_HEADER = 72
_ROW = _MAP + _GAP
_FOOTER = 76
_MOST_CONCEPTS = 24

_BACKGROUND = (24, 26, 30)
_TEXT = (232, 234, 237)
_FAINT = (150, 155, 163)
# Dark to light in even steps of lightness, so that it also reads without colour.
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
    """The picture as a ComfyUI IMAGE (1, height, width, 3) in 0..1; one colour scale for all maps."""
    concepts = list(adapter.concepts.values())
    shown = concepts[:_MOST_CONCEPTS]
    maps = [(rms_map(concept.ram), rms_map(concept.sam)) for concept in shown]
    peak = max((float(m.max()) for pair in maps for m in pair if m is not None), default=0.0)
    width = _GAP + _LABELS + 2 * (_MAP + _GAP)
    height = _HEADER + _ROW * len(shown) + _FOOTER
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    _text(pen, (_GAP, 14), _fit(adapter.source, 40), 20)
    if len(concepts) > len(shown):
        _text(pen, (_GAP, 42), f"first {len(shown)} of {len(concepts)} concepts", 13, _FAINT)
    columns = (_GAP + _LABELS, _GAP + _LABELS + _MAP + _GAP)
    for x, title in zip(columns, ("RAM", "SAM"), strict=True):
        _text(pen, (x, 44), title, 15)
    for row, (concept, pair) in enumerate(zip(shown, maps, strict=True)):
        y = _HEADER + row * _ROW
        _label(pen, concept, y)
        for x, module, values in zip(columns, (concept.ram, concept.sam), pair, strict=True):
            _cell(canvas, pen, (x, y), module, values, peak)
    _scale(canvas, pen, columns[0], height - _FOOTER + 18, 2 * _MAP + _GAP, peak)
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)[None]


def _label(pen: ImageDraw.ImageDraw, concept: Concept, y: int) -> None:
    _text(pen, (_GAP, y), _fit(concept.name, 24), 17)
    rows = [f"{concept.info.category}, {concept.kind}"]
    rows += [
        f"{_fit(text, 34)}"
        for text in (concept.info.target, concept.info.neutral and f"from: {concept.info.neutral}")
        if text
    ]
    for line, text in enumerate(rows):
        _text(pen, (_GAP, y + 28 + 20 * line), text, 13, _FAINT)


def _cell(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    module: Transform,
    values: torch.Tensor | None,
    peak: float,
) -> None:
    if values is None:
        pen.rectangle((*at, at[0] + _MAP, at[1] + _MAP), outline=_FAINT)
        _text(pen, (at[0] + 16, at[1] + _MAP // 2 - 10), f"{module.kind}: depends on h", 13, _FAINT)
        return
    pixels = Image.fromarray(_coloured(values.numpy() / (peak or 1.0)))
    canvas.paste(pixels.resize((_MAP, _MAP), Image.Resampling.NEAREST), at)


def _scale(canvas: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, width: int, peak: float) -> None:
    ramp = np.linspace(0.0, 1.0, width, dtype=np.float32)[None].repeat(14, axis=0)
    canvas.paste(Image.fromarray(_coloured(ramp)), (x, y))
    _text(pen, (x, y + 20), "0", 13, _FAINT)
    _text(pen, (x + width, y + 20), f"{peak:.3g}", 13, _FAINT, anchor="ra")
    _text(pen, (x + width // 2, y + 20), "rms over channels, at strength 1", 13, _FAINT, anchor="ma")


def _coloured(values: np.ndarray) -> np.ndarray:
    """Values in 0..1 (height, width) as RGB bytes."""
    places = np.linspace(0.0, 1.0, len(_COLOURS))
    channels = [np.interp(values, places, _COLOURS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int] = _TEXT,
    anchor: str = "la",
) -> None:
    pen.text(at, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def _fit(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
