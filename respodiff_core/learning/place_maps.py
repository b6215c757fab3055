"""Maps with vectors of their own at each place of a coarse grid, from the mean outputs of a cross-attention layer.

As in CASteer (ICLR 2026) and EquiSteer (arXiv 2607.01147) the share of the output along the groups' differences is
exchanged for the mean level, here summed over the whole image. They suit subjects that always stand in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .token_maps import ROUNDING, FittedMap, WantedMap

_LEAST_SIZE = 1e-3
"""Of a direction in which the groups differ, relative to the largest."""


class PlaceSums:
    """Sums of what the layer adds at each place for the neutral prompt and for each group, (1 + G, C, height, width).

    `size` is the layer's height and width, `places` the grid's, at most those of the layer.
    """

    def __init__(self, channels: int, groups: int, size: tuple[int, int], places: int, device: torch.device) -> None:
        self._size, self._grid = size, (min(places, size[0]), min(places, size[1]))
        self._count = 0
        self._sums = torch.zeros(1 + groups, channels, *self._grid, device=device)

    @property
    def is_finite(self) -> bool:
        return bool(self._sums.isfinite().all())

    def add(self, neutral: torch.Tensor, groups: Sequence[torch.Tensor]) -> None:
        """Count in what the layer adds for the neutral prompt and for each group: (rows, tokens, C)."""
        self._count += len(neutral)
        fields = torch.stack([one.sum(0).mT.unflatten(1, self._size) for one in (neutral, *groups)])
        self._sums += torch.nn.functional.adaptive_avg_pool2d(fields, self._grid)

    def is_zero(self, weights: Sequence[float]) -> bool:
        """Whether the weighted sum of the differences is nothing but rounding."""
        return bool(self._mixed(weights).norm() <= ROUNDING * self._sums[0].norm())

    def fitted(self, maps: Mapping[str, WantedMap], ridge: float) -> dict[str, FittedMap]:
        """The maps by name: `clear` takes the output to the middle between the groups, all others add the weighted mean
        of the differences.
        """
        return {name: self._clear() if name == "clear" else self._constant(one) for name, one in maps.items()}

    def _mixed(self, weights: Sequence[float]) -> torch.Tensor:
        differences = self._sums[1:] - self._sums[0]
        return torch.einsum("g,gchw->chw", torch.tensor(weights, device=differences.device), differences)

    def _constant(self, wanted: WantedMap) -> FittedMap:
        mean = self._mixed(wanted.weights) / self._count
        size = mean.norm()
        return FittedMap(mean[None] / size.clamp(min=torch.finfo(torch.float32).tiny), size[None], None)

    def _clear(self) -> FittedMap:
        groups = self._sums[1:] / self._count
        middle = groups.mean(0)
        away = (groups - middle).flatten(1)
        _, sizes, directions = torch.linalg.svd(away, full_matrices=False)
        # G groups differ in G - 1 directions, of which some are nothing but rounding if groups are equal.
        is_real = sizes > _LEAST_SIZE * sizes[0]
        basis = (directions * is_real[:, None])[: len(groups) - 1]
        basis = torch.where((basis @ away[0])[:, None] < 0, -basis, basis)  # the same file every time
        return FittedMap(basis.view(-1, *middle.shape), basis @ middle.flatten(), -basis.view(-1, *middle.shape))
