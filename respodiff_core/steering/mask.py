"""Masks: where in the image a concept acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..errors import StrengthError


class Area(NamedTuple):
    """A part of the image, in fractions (0 to 1) of its height and width."""

    top: float
    left: float
    height: float
    width: float


WHOLE = Area(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Mask:
    """A factor for each position: values (masks, height, width) in 0..1, fp32. A single mask applies to all images."""

    values: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> Mask:
        """A mask from values (height, width) or (masks, height, width), clamped to 0..1.

        Raises StrengthError for other shapes, and for NaN.
        """
        if values.dim() == 2:
            values = values[None]
        if values.dim() != 3 or not values.numel():
            raise StrengthError(f"A mask must have the shape (masks, height, width), not {tuple(values.shape)}.")
        if values.isnan().any():
            raise StrengthError("The mask contains NaN. Check the node that it comes from.")
        return cls(values.detach().to("cpu", torch.float32, copy=True).clamp_(0, 1))

    @property
    def count(self) -> int:
        """The number of masks."""
        return len(self.values)

    def on(self, height: int, width: int, area: Area = WHOLE) -> torch.Tensor:
        """The mask at the size of h, (masks, 1, height, width): the mean over the region that each position covers.

        A position completely outside the mask is exactly 0. `area` is the part of the image that h covers.
        """
        rows = _span(area.top, area.height, self.values.shape[1])
        columns = _span(area.left, area.width, self.values.shape[2])
        return F.adaptive_avg_pool2d(self.values[:, None, rows, columns], (height, width))


def _span(start: float, length: float, size: int) -> slice:
    """The part of `size` positions from `start` (a fraction) of the given length; at least one."""
    first = min(round(start * size), size - 1)
    return slice(first, max(first + 1, round((start + length) * size)))
