"""How pictures are judged: a scorer looks at pictures and gives each some numbers, by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from .column import Column
from .image_spec import ImageSpec

Scores = dict[str, float | int | None]
"""Columns of one picture. None: the scorer cannot tell; it is counted, and left out of the figure."""

LABEL = "label:"
"""`label:gender` is the column with the class seen, the number of one of that axis' classes."""


@dataclass(frozen=True)
class Axis:
    """Groups of one kind that a classifier tells apart: `gender`, its classes by name, and each in words."""

    name: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def column(self) -> str:
        """Where the class seen stands in scores."""
        return LABEL + self.name

    @property
    def in_words(self) -> str:
        """What its classes are told apart by."""
        return f"{self.name}: {' | '.join(self.texts)}"


@dataclass(frozen=True)
class ScoredImage:
    """One picture (RGB) to judge: what was asked for, and the picture of the same prompt and seed without any adapter,
    where there is one (for the unsteered picture itself: None).
    """

    spec: ImageSpec
    image: Image.Image
    unsteered: Image.Image | None = None


class Scorer(Protocol):
    """Judges pictures, several at once; each for itself, whatever stands beside it."""

    name: str
    """Of its file of scores, in letters, digits and dashes."""
    fingerprint: str
    """Of its weights and settings, in words: scores of another are never taken for this one's."""
    columns: tuple[Column, ...]
    """What it gives, besides the labels of axes."""

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        """The columns of each picture, always the same ones."""
        ...


class SetScorer(Protocol):
    """Judges all images of a variant together, once the others have judged each."""

    name: str
    fingerprint: str
    """Of its weights and settings, in words."""
    column: Column
    """The one figure that it gives."""

    def of(self, files: Sequence[Path]) -> float:
        """The figure of the images in these files. Raises RespoDiffError."""
        ...


def rows(columns: Mapping[str, Sequence[float | int | None]], count: int) -> list[Scores]:
    """The scores of each of `count` images, from columns that hold a value for each."""
    return [{name: column[number] for name, column in columns.items()} for number in range(count)]


class Classifier(Protocol):
    """Tells which class of an axis pictures show: the seam for a classifier of one's own."""

    def __call__(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Sequence[int | None]:
        """For each picture (RGB) the number of the text that fits it best, or None where it cannot tell."""
        ...
