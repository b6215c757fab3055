"""Pixel change: how much steering changes the pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ....respodiff_core.errors import RespoDiffError
from ...worlds.column import Column
from ...worlds.scorer import ScoredImage, Scorer, Scores
from .loading import Loading


class PixelChange(Scorer):
    """`change`: the root mean square difference to the unsteered image over pixels and channels, from 0 to 1. None
    without an unsteered image.
    """

    name = "change"
    columns = (
        Column(
            "change",
            "pixel change",
            "root mean square change of a pixel against the same seed without adapter",
            over_strength=True,
        ),
    )
    fingerprint = "root mean square"

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        return [{"change": None if one.unsteered is None else _change(one.image, one.unsteered)} for one in shown]


def load(loading: Loading) -> PixelChange:
    """Nothing to load."""
    return PixelChange()


def _change(image: Image.Image, unsteered: Image.Image) -> float:
    if image.size != unsteered.size:
        raise RespoDiffError(
            f"An image of {_size(image)} pixels cannot be compared with the unsteered one of {_size(unsteered)}: "
            "generate both in the same size."
        )
    difference = np.asarray(image, np.float32) - np.asarray(unsteered, np.float32)
    return float(np.sqrt(np.square(difference / 255).mean()))


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
