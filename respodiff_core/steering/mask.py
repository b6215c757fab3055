"""Where in the picture a concept acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..errors import StrengthError


class Area(NamedTuple):
    """A part of the picture, in fractions of its height and width."""

    top: float
    left: float
    height: float
    width: float


WHOLE = Area(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Mask:
    """How much a concept acts at each place: values (pictures, height, width), fp32; one picture serves all images."""

    values: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> Mask:
        """From (height, width) or (pictures, height, width), clamped to 0..1.

        Raises StrengthError for other shapes, and for NaN.
        """
        if values.dim() == 2:
            values = values[None]
        if values.dim() != 3 or not values.numel():
            raise StrengthError(f"A mask must be (pictures, height, width), not {tuple(values.shape)}.")
        if values.isnan().any():
            raise StrengthError("The mask holds NaN, so it does not say where to steer. See the node it is from.")
        return cls(values.detach().to("cpu", torch.float32, copy=True).clamp_(0, 1))

    @property
    def pictures(self) -> int:
        return len(self.values)

    def on(self, height: int, width: int, area: Area = WHOLE) -> torch.Tensor:
        """The mask on an h of that size, (pictures, 1, height, width): the mean over what each place covers.

        So a place that the mask leaves out altogether gets exactly 0. `area` is the part of the picture that h
        stands for.
        """
        rows = _span(area.top, area.height, self.values.shape[1])
        columns = _span(area.left, area.width, self.values.shape[2])
        return F.adaptive_avg_pool2d(self.values[:, None, rows, columns], (height, width))


def _span(start: float, length: float, size: int) -> slice:
    """At least one of `size` places."""
    first = min(round(start * size), size - 1)
    return slice(first, max(first + 1, round((start + length) * size)))
