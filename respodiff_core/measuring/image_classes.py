"""Classes that a CLIP tells pictures apart by, and which of them each picture was asked to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..errors import BatchSizeError, ClassifierError
from ..steering.fair_groups import AND, NONE


@dataclass(frozen=True)
class PictureClass:
    """A class by its name, and the text that CLIP compares pictures with."""

    name: str
    text: str


class ImageSpec(NamedTuple):
    """For each picture the number of the class it was asked to show, None for none; and names that are no class."""

    numbers: list[int | None]
    unknown: tuple[str, ...]


class Embedded(NamedTuple):
    """Pictures (N, D) and the classes' texts (C, D) in one space, and the name of the CLIP that put them there."""

    pictures: torch.Tensor
    texts: torch.Tensor
    clip: str


def parse_classes(lines: str) -> tuple[PictureClass, ...]:
    """One class a line: `name = text`, or a text that is its own name. Raises ClassifierError."""
    classes = tuple(_parse(line) for line in lines.splitlines() if line.strip())
    if len(classes) < 2:
        found = f"only {classes[0].name!r}" if classes else "none"
        raise ClassifierError(
            f"Pictures are told apart by two classes or more, and there is {found}. Write one class a line, such as "
            "'woman = a photo of a woman'."
        )
    for what in ("name", "text"):
        known: set[str] = set()
        for value in (getattr(one, what).casefold() for one in classes):
            if value in known:
                raise ClassifierError(f"Two classes have the {what} {value!r}: leave one out, or write it differently.")
            known.add(value)
    return classes


def asked_for(names: str | None, pictures: int, classes: Sequence[PictureClass]) -> ImageSpec:
    """What each picture was asked to show, by Fair Batch's names, a line for each; without names nothing was asked.

    A class is known by its name, else by its text. Of a crossed group ("woman + black") the part that is a class
    counts. Raises BatchSizeError, and ClassifierError where more than one part is a class.
    """
    lines = [NONE] * pictures if names is None else names.splitlines()
    if len(lines) != pictures:
        raise BatchSizeError(
            f"{pictures} pictures came with {len(lines)} names: connect the TEXT of the Fair Batch that they were made "
            "by."
        )
    known = {one.text.casefold(): number for number, one in enumerate(classes)}
    known |= {one.name.casefold(): number for number, one in enumerate(classes)}
    numbers = [_asked(line, known) for line in lines]
    strangers = dict.fromkeys(line for line, n in zip(lines, numbers, strict=True) if n is None and line != NONE)
    return ImageSpec(numbers, tuple(strangers))


def check_pictures(images: torch.Tensor) -> None:
    """Refuse pictures (N, H, W, C) that cannot be looked at. Raises ClassifierError."""
    if not len(images):
        raise ClassifierError("No pictures came, so there is nothing to count.")
    broken = [number for number, image in enumerate(images, start=1) if not image.isfinite().all()]
    if broken:
        raise ClassifierError(
            f"Picture {broken[0]} of {len(images)} holds NaN or infinite values, so nothing can be seen in it. Often "
            "a VAE in fp16 or too high a strength is to blame."
        )


def nearest(pictures: torch.Tensor, texts: torch.Tensor) -> list[int]:
    """For each picture (N, D) the number of the text (C, D) of the greatest cosine; of equals the first."""
    if not (pictures.isfinite().all() and texts.isfinite().all()):
        raise ClassifierError("CLIP gave NaN or infinite values. Load it in fp32, or choose another.")
    pictures, texts = (torch.nn.functional.normalize(one.float(), dim=-1) for one in (pictures, texts))
    cosines = pictures @ texts.T
    # Of equal values torch's argmax may give any.
    return [row.index(max(row)) for row in cosines.tolist()]


def _parse(line: str) -> PictureClass:
    name, equals, text = (part.strip() for part in line.partition("="))
    if not name or (equals and not text):
        raise ClassifierError(f"{line.strip()!r} is no class: write 'name = text', or a text alone.")
    return PictureClass(name, text or name)


def _asked(name: str, known: dict[str, int]) -> int | None:
    whole = known.get(name.strip().casefold())
    if whole is not None:
        return whole
    parts = {known[part] for part in map(str.strip, name.casefold().split(AND)) if part in known}
    if len(parts) > 1:
        raise ClassifierError(
            f"{name!r} names {len(parts)} of the classes, but a picture is counted as one. Measure each axis (gender, "
            "race) with a meter and classes of its own."
        )
    return next(iter(parts), None)
