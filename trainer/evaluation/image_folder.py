"""The images of a run as PNG files: one folder per variant, one file per image spec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ...respodiff_core.atomic import replacing
from ...respodiff_core.errors import RespoDiffError, reason_of
from ..worlds.image_spec import ImageSpec


class DamagedImage(RespoDiffError):
    """An image file is missing or cannot be read."""


class ImageFolder:
    """Files `<folder>/<variant>/<id>.png`, written atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, variant: str, id_: str) -> Path:
        """The path of an image, whether it exists or not."""
        return self.folder / variant / f"{id_}.png"

    def has(self, variant: str, id_: str) -> bool:
        return self.path(variant, id_).exists()

    def read(self, variant: str, id_: str) -> Image.Image:
        """The image in RGB. Raises DamagedImage."""
        path = self.path(variant, id_)
        try:
            with Image.open(path) as image:
                return in_rgb(image)
        except FileNotFoundError:
            raise DamagedImage(f"{variant}/{path.name} is missing") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's broken PNG
            reason = reason_of(error).replace(str(path), path.name)
            raise DamagedImage(f"{variant}/{path.name} cannot be read ({reason})") from None

    def write(self, images: Sequence[tuple[str, ImageSpec, Image.Image]]) -> None:
        """Write these images; all are renamed into place at the end, one right after the other."""
        with ExitStack() as renames:
            for variant, spec, image in images:
                path = self.path(variant, spec.id)
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = renames.enter_context(replacing(path))
                image.save(partial, format="PNG", pnginfo=_metadata(variant, spec), compress_level=4)


def in_rgb(image: Image.Image) -> Image.Image:
    """In RGB with 8 bits; Pillow alone clips images with 16 bits."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def _metadata(variant: str, spec: ImageSpec) -> PngInfo:
    text = PngInfo()
    facts = {"variant": variant, "id": spec.id, "prompt": spec.prompt, "seed": spec.seed}
    text.add_text("respodiff", json.dumps(facts))
    return text
