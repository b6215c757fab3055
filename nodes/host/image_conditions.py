"""One conditioning with a row per image: its row i acts on image i of the batch (comfy.conds), in every family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.utils import repeat_to_batch_size

Conditioning = list[list[Any]]


class ImageWeights:
    """The strength of a conditioning for each image, as a factor on tensors (images, ...) of any number of dimensions.

    ComfyUI multiplies by the strength. A mask would need to know whether latents are images or videos.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = torch.tensor(weights)

    def __rmul__(self, tensor: torch.Tensor) -> torch.Tensor:
        weights = repeat_to_batch_size(self._weights.to(tensor), len(tensor))
        return tensor * weights.view(-1, *[1] * (tensor.ndim - 1))


def per_image(encodings: Sequence[Conditioning]) -> Conditioning:
    """The encodings of the images, one each, as one conditioning.

    Encodings of the same shape become rows of one entry. Others, which text encoders without padding make of texts of
    different length, need an entry for each shape; the model then runs once for each.
    """
    shapes: dict[Any, list[int]] = {}
    for number, encoding in enumerate(encodings):
        shapes.setdefault(_shape(encoding), []).append(number)
    entries: Conditioning = []
    for numbers in shapes.values():
        # Rows of other images repeat the first of this entry, with a weight of 0.
        rows = [encodings[number if number in numbers else numbers[0]] for number in range(len(encodings))]
        entry: Conditioning = _rows(rows)
        if len(shapes) > 1:
            weights = ImageWeights([float(number in numbers) for number in range(len(encodings))])
            entry = [[tokens, {**more, "strength": weights}] for tokens, more in entry]
        entries += entry
    return entries


def _rows(values: Sequence[Any]) -> Any:
    """The values of all images as one: tensors with a row per image, and of other values the first."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(values)) if first.ndim else first
    if isinstance(first, dict):
        return {name: _rows([value[name] for value in values]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)(_rows(column) for column in zip(*values, strict=True))
    return first


def _shape(value: Any) -> Any:
    """What must be the same for two values to be rows of one: the shapes of tensors, and other values as they are."""
    if isinstance(value, torch.Tensor):
        return ("tensor", *value.shape, value.dtype)
    if isinstance(value, dict):
        return tuple(sorted((str(name), _shape(one)) for name, one in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(map(_shape, value))
    return value if isinstance(value, (int, float, str, bool, type(None))) else id(value)
