"""The preview image beside an adapter file, as model managers show it: gender.preview.png beside gender.safetensors."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from PIL import Image

from ...respodiff_core.atomic import replacing
from ..pictures.drawing import as_image, from_image

logger = logging.getLogger("respodiff")

_LARGEST = 512  # pixels
_ENDINGS = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")


def save_preview(adapter: Path, image: torch.Tensor) -> Path:
    """Write the first image of a ComfyUI IMAGE beside the file, and return its path. Raises OSError."""
    path = adapter.with_suffix(_ENDINGS[0])
    small = from_image(image[0])
    small.thumbnail((_LARGEST, _LARGEST))
    with replacing(path) as partial:
        small.save(partial, "PNG")
    return path


def find_preview(adapter: Path) -> torch.Tensor | None:
    """The image beside the file as a ComfyUI IMAGE; None if there is none that can be read."""
    for path in (adapter.with_suffix(ending) for ending in _ENDINGS):
        if path.is_file():
            try:
                with Image.open(path) as image:
                    shown = image.convert("RGB")
                    shown.thumbnail((_LARGEST, _LARGEST))
                    return as_image(shown)
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                logger.warning("RespoDiff: the preview %s cannot be read (%s).", path.name, error)
    return None
