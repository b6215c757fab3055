"""The interfaces of scorers, which return numbers for images, by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from .column import Column
from .image_spec import ImageSpec

Scores = dict[str, float | int | None]
"""The columns of one image. None: the scorer cannot tell; such images are counted, but left out of the figure."""

LABEL = "label:"
"""`label:gender` is the column with the detected class, as an index of the classes of that axis."""


@dataclass(frozen=True)
class Axis:
    """An axis such as `gender`, the names of the classes that a classifier distinguishes, and a text for each."""

    name: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def column(self) -> str:
        """The column of scores with the detected class."""
        return LABEL + self.name

    @property
    def in_words(self) -> str:
        """The axis and the texts of its classes, as one string."""
        return f"{self.name}: {' | '.join(self.texts)}"


@dataclass(frozen=True)
class ScoredImage:
    """One image (RGB) to score, its spec, and the image of the same prompt and seed without any adapter, if there is
    one (None for the unsteered image itself).
    """

    spec: ImageSpec
    image: Image.Image
    unsteered: Image.Image | None = None


class Scorer(Protocol):
    """Scores images in batches; the scores of an image do not depend on the other images of its batch."""

    name: str
    """The name of its score files: letters, digits and dashes."""
    fingerprint: str
    """Describes its weights and settings; stored scores are only reused if it matches."""
    columns: tuple[Column, ...]
    """The columns it returns, besides the labels of axes."""

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        """The scores of each image, always with the same columns."""
        ...


class SetScorer(Protocol):
    """Scores all images of a variant together, after the scorers of single images."""

    name: str
    fingerprint: str
    """Describes its weights and settings."""
    column: Column
    """The figure that it computes."""

    def of(self, files: Sequence[Path]) -> float:
        """The figure of the images in these files. Raises RespoDiffError."""
        ...


def rows(columns: Mapping[str, Sequence[float | int | None]], count: int) -> list[Scores]:
    """The scores of `count` images, from columns with one value per image."""
    return [{name: column[number] for name, column in columns.items()} for number in range(count)]


class Classifier(Protocol):
    """Classifies images along an axis: the interface of custom classifiers."""

    def __call__(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Sequence[int | None]:
        """For each image (RGB) the index of the text that fits it best, or None if it cannot tell."""
        ...
