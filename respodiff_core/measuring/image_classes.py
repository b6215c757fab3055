"""Classes for zero-shot classification of images with CLIP, and the class requested for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..errors import BatchSizeError, ClassifierError
from ..steering.fair_groups import AND, NONE


@dataclass(frozen=True)
class ImageClass:
    """A class: its name, and the text that CLIP compares images with."""

    name: str
    text: str


class RequestedClasses(NamedTuple):
    """`numbers`: for each image the number of the requested class, or None. `unknown`: names that are not a class."""

    numbers: list[int | None]
    unknown: tuple[str, ...]


class Embeddings(NamedTuple):
    """CLIP embeddings of images (N, D) and of the class texts (C, D), and the name of the CLIP model."""

    images: torch.Tensor
    texts: torch.Tensor
    clip: str


def parse_classes(lines: str) -> tuple[ImageClass, ...]:
    """Parse one class per line: `name = text`, or a text that is also the name.

    Raises ClassifierError for fewer than two classes, and for duplicate names or texts.
    """
    classes = tuple(_parse(line) for line in lines.splitlines() if line.strip())
    if len(classes) < 2:
        found = f"only {classes[0].name!r}" if classes else "none"
        raise ClassifierError(
            f"At least two classes are needed, and there is {found}. Write one class per line, such as "
            "'woman = a photo of a woman'."
        )
    for what in ("name", "text"):
        known: set[str] = set()
        for value in (getattr(one, what).casefold() for one in classes):
            if value in known:
                raise ClassifierError(f"Two classes have the {what} {value!r}: remove or change one of them.")
            known.add(value)
    return classes


def requested_classes(names: str | None, images: int, classes: Sequence[ImageClass]) -> RequestedClasses:
    """The class requested for each image, from Fair Batch's names: one line per image, or None if none were requested.

    A class is matched by its name, or else by its text. In a crossed group ("woman + black") the part that is a class
    counts. Raises BatchSizeError if the number of lines is not `images`, and ClassifierError if more than one part
    of a name is a class.
    """
    lines = [NONE] * images if names is None else names.splitlines()
    if len(lines) != images:
        raise BatchSizeError(
            f"There are {images} images but {len(lines)} names: connect TEXT from the Fair Batch node that these "
            "images were generated with."
        )
    known = {one.text.casefold(): number for number, one in enumerate(classes)}
    known |= {one.name.casefold(): number for number, one in enumerate(classes)}
    numbers = [_requested(line, known) for line in lines]
    unknown = dict.fromkeys(line for line, n in zip(lines, numbers, strict=True) if n is None and line != NONE)
    return RequestedClasses(numbers, tuple(unknown))


def check_images(images: torch.Tensor) -> None:
    """Raise ClassifierError for an empty batch of images (N, H, W, C), and for NaN or infinite values."""
    if not len(images):
        raise ClassifierError("The batch of images is empty, so there is nothing to count.")
    broken = [number for number, image in enumerate(images, start=1) if not image.isfinite().all()]
    if broken:
        raise ClassifierError(
            f"Image {broken[0]} of {len(images)} contains NaN or infinite values and cannot be classified. Common "
            "causes are a VAE in fp16 and a strength that is too high."
        )


def nearest(images: torch.Tensor, texts: torch.Tensor) -> list[int]:
    """For each image embedding (N, D) the number of the text embedding (C, D) with the greatest cosine similarity.

    The first one of equals. Raises ClassifierError for NaN and infinity.
    """
    if not (images.isfinite().all() and texts.isfinite().all()):
        raise ClassifierError("CLIP returned NaN or infinite values. Load it in fp32, or choose another CLIP.")
    images, texts = (torch.nn.functional.normalize(one.float(), dim=-1) for one in (images, texts))
    cosines = images @ texts.T
    # For equal values torch's argmax may return any of them.
    return [row.index(max(row)) for row in cosines.tolist()]


def _parse(line: str) -> ImageClass:
    name, equals, text = (part.strip() for part in line.partition("="))
    if not name or (equals and not text):
        raise ClassifierError(f"{line.strip()!r} is not a valid class: write 'name = text', or only a text.")
    return ImageClass(name, text or name)


def _requested(name: str, known: dict[str, int]) -> int | None:
    whole = known.get(name.strip().casefold())
    if whole is not None:
        return whole
    parts = {known[part] for part in map(str.strip, name.casefold().split(AND)) if part in known}
    if len(parts) > 1:
        raise ClassifierError(
            f"{name!r} contains {len(parts)} of the classes, but each image is counted in only one. Use a separate "
            "Bias Meter with its own classes for each axis (gender, race)."
        )
    return next(iter(parts), None)
