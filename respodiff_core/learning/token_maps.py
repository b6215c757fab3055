"""Maps that read each token by itself, fitted to what a cross-attention layer adds for contrasting prompts.

The direction is the one in which the differences between the prompts spread most, and ridge regression reads from the
neutral prompt's token how far to go. EquiSteer (arXiv 2607.01147) reads along the direction itself; the fitted reading
is our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch


class WantedMap(NamedTuple):
    """A map to fit: to the sum of the differences y_g with these weights, of this rank."""

    weights: Sequence[float]
    rank: int = 1


class FittedMap(NamedTuple):
    """Directions (R, C, height, width), levels (R) and readings like the directions, or None: see LowRankMap."""

    direction: torch.Tensor
    level: torch.Tensor
    reading: torch.Tensor | None


class TokenSums:
    """Sums over tokens x (C) of the neutral prompt and the differences y_g (C) of each group from it."""

    def __init__(self, channels: int, groups: int, device: torch.device) -> None:
        self.count = 0
        self.x = torch.zeros(channels, device=device)
        self.xx = torch.zeros(channels, channels, device=device)
        self.y = torch.zeros(groups, channels, device=device)
        self.xy = torch.zeros(groups, channels, channels, device=device)

    @property
    def is_finite(self) -> bool:
        return bool(self.xx.isfinite().all())

    def add(self, neutral: torch.Tensor, groups: Sequence[torch.Tensor]) -> None:
        """Count in what the layer adds for the neutral prompt and for each group: (rows, tokens, C)."""
        x, ys = neutral.flatten(0, 1), [(group - neutral).flatten(0, 1) for group in groups]
        self.count += len(x)
        self.x += x.sum(0)
        self.xx += x.T @ x
        for number, y in enumerate(ys):
            self.y[number] += y.sum(0)
            self.xy[number] += x.T @ y

    def is_zero(self, weights: Sequence[float]) -> bool:
        """Whether the weighted sum of the y_g is nothing but rounding."""
        mixed = torch.tensor(weights, device=self.xy.device)
        return bool(torch.einsum("g,gcd->cd", mixed, self.xy).norm() <= ROUNDING * self.xx.norm())

    def fitted(self, maps: Mapping[str, WantedMap], ridge: float) -> dict[str, FittedMap]:
        """The best map of its rank from x to each weighted sum of the y_g, by name."""
        # In fp64, which a GPU of Apple's does not have.
        place = self.x.device if self.x.device.type == "cuda" else "cpu"
        x, xx, y, xy = (tensor.to(place).double() / self.count for tensor in (self.x, self.xx, self.y, self.xy))
        spread = xx - torch.outer(x, x)
        floor = ridge * spread.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        factor = torch.linalg.cholesky(spread + floor * torch.eye(len(x), dtype=x.dtype, device=place))
        fitted = {}
        for name, one in maps.items():
            mixed = torch.tensor(one.weights, dtype=x.dtype, device=place)
            mean = mixed @ y
            joint = torch.einsum("g,gcd->cd", mixed, xy) - torch.outer(x, mean)
            fitted[name] = _fitted(factor, spread, joint, x, mean, min(one.rank, len(x)))
        return fitted


_SPARE, _ITERATIONS = 3, 60
ROUNDING = 1e-6


def _fitted(
    factor: torch.Tensor, spread: torch.Tensor, joint: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, rank: int
) -> FittedMap:
    """The map along the directions in which the values of the ridge regression spread most.

    `factor` is the Cholesky factor of the regularized covariance of x, `spread` its covariance, `joint` that of x and
    y. The directions are found by subspace iteration: the matrix of second moments of the fitted values is never
    formed.
    """

    def slopes(directions: torch.Tensor) -> torch.Tensor:
        return torch.cholesky_solve(joint @ directions, factor)

    def moments(directions: torch.Tensor) -> torch.Tensor:
        back = torch.cholesky_solve(spread @ slopes(directions), factor)
        return joint.T @ back + torch.outer(mean, mean @ directions)

    count = min(rank + _SPARE, len(mean))
    start = torch.eye(len(mean), count, dtype=mean.dtype, device=mean.device)
    start[:, 0] = mean
    basis = torch.linalg.qr(moments(start) + 1e-9 * start).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(moments(basis)).Q
    small = basis.T @ moments(basis)
    directions = basis @ torch.linalg.eigh((small + small.T) / 2).eigenvectors[:, -rank:].flip(1)
    directions = torch.where(mean @ directions < 0, -directions, directions)  # the same file every time
    readings = slopes(directions)
    at_all_places = (*directions.T.shape, 1, 1)
    level = mean @ directions - x @ readings
    return FittedMap(directions.T.reshape(at_all_places), level, readings.T.reshape(at_all_places))
