"""The maps of all contrast concepts of a plan at one site, fused: one read and one addition for any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from ..adapter.contrast import LowRankMap
from .mask import WHOLE, Area, Mask

_CACHED_SIZES = 8


@dataclass(frozen=True, eq=False)
class WeightedMap:
    """A map with its factor: one number, or one for each image of the batch; `mask` is the region where it acts.

    `sigmas` are the noise levels at which the next of its parts begins, falling.
    """

    map: LowRankMap
    factors: tuple[float, ...]
    sigmas: tuple[float, ...] = ()
    mask: Mask | None = None

    @property
    def is_read_over_places(self) -> bool:
        return self.map.reading is not None and self.map.reading.shape[3:] != (1, 1)

    def scale(self, height: int, width: int, area: Area) -> torch.Tensor:
        """The factor at each token: (images or 1, tokens or 1), fp32."""
        scale = torch.tensor(self.factors)[:, None]
        return scale if self.mask is None else scale * self.mask.on(height, width, area).flatten(1)


class _At(NamedTuple):
    """What maps are fused for: the size of a layer, the part of the image that it covers, device and dtype."""

    height: int
    width: int
    area: Area
    device: torch.device
    dtype: torch.dtype


class LayerMaps:
    """The maps of a plan at one site. What does not change from step to step is fused once per size and device."""

    def __init__(self, maps: Iterable[WeightedMap]):
        bundles: dict[tuple[object, ...], list[WeightedMap]] = {}
        for one in maps:
            bundles.setdefault((one.sigmas, one.map.reading is None, one.is_read_over_places), []).append(one)
        # Closures over plain values instead of bound methods, so that the caches do not keep the plan alive.
        held = tuple(map(tuple, bundles.values()))
        self._fused_on = lru_cache(maxsize=_CACHED_SIZES)(
            lambda at: [(_Constant if bundle[0].map.reading is None else _Moves).of(bundle, at) for bundle in held]
        )
        self._has_mask = any(one.mask is not None for bundle in held for one in bundle)

    def delta(
        self, x: torch.Tensor, size: tuple[int, int], sigmas: torch.Tensor | None = None, area: Area = WHOLE
    ) -> torch.Tensor:
        """The tensor to add to x (images, tokens, C), whose tokens are the places of a layer of that size, row by row.

        `sigmas` (images,) is the noise level, the same for all images; without it, the first part of the schedule
        acts. `area` is the part of the image that the layer covers. Reads nothing from the device.
        """
        area = area if self._has_mask else WHOLE
        total = None
        for fused in self._fused_on(_At(*size, area, x.device, x.dtype)):
            delta = fused.delta(x, sigmas)
            total = delta if total is None else total + delta
        assert total is not None, "a layer has at least one map"
        return total


@dataclass(frozen=True)
class _Parts:
    """Where the next part of the schedule begins: falling noise levels, on the device."""

    sigmas: torch.Tensor

    def choose(self, values: torch.Tensor, sigmas: torch.Tensor | None) -> torch.Tensor:
        """The current part of `values` (P, ...)."""
        if sigmas is None or len(values) == 1:
            return values[0]
        return values.index_select(0, (sigmas[:1].to(self.sigmas) < self.sigmas).sum(0, keepdim=True))[0]


@dataclass(frozen=True)
class _Constant:
    """The sum of maps that read nothing: `value` is (P, images or 1, tokens or 1, C)."""

    parts: _Parts
    value: torch.Tensor

    @classmethod
    def of(cls, bundle: Sequence[WeightedMap], at: _At) -> _Constant:
        value = torch.zeros(())
        for one in bundle:
            field = torch.einsum("ptrc,pr->ptc", one.map.directions(at.height, at.width), one.map.level)
            value = value + field[:, None] * one.scale(at.height, at.width, at.area)[..., None]
        return cls(_Parts(torch.tensor(bundle[0].sigmas, device=at.device)), value.to(at.device, at.dtype))

    def delta(self, x: torch.Tensor, sigmas: torch.Tensor | None) -> torch.Tensor:
        return self.parts.choose(self.value, sigmas)


@dataclass(frozen=True)
class _Moves:
    """Maps of rank K together that read x: `reading` (P, tokens or 1, C, K), `level` (P, K), `scale` (images or 1,
    tokens or 1, K) and `direction` (P, tokens or 1, K, C).
    """

    parts: _Parts
    reading: torch.Tensor
    level: torch.Tensor
    scale: torch.Tensor
    direction: torch.Tensor
    is_read_over_places: bool

    @classmethod
    def of(cls, bundle: Sequence[WeightedMap], at: _At) -> _Moves:
        readings = [one.map.readings(at.height, at.width) for one in bundle]
        scales = [
            one.scale(at.height, at.width, at.area)[..., None].expand(-1, -1, one.map.level.shape[1]) for one in bundle
        ]
        return cls(
            _Parts(torch.tensor(bundle[0].sigmas, device=at.device)),
            _joined([reading for reading in readings if reading is not None], -2).mT.to(at.device, at.dtype),
            torch.cat([one.map.level for one in bundle], -1).to(at.device, at.dtype),
            _joined(scales, -1).to(at.device, at.dtype),
            _joined([one.map.directions(at.height, at.width) for one in bundle], -2).to(at.device, at.dtype),
            bundle[0].is_read_over_places,
        )

    def delta(self, x: torch.Tensor, sigmas: torch.Tensor | None) -> torch.Tensor:
        reading, level, direction = (
            self.parts.choose(values, sigmas) for values in (self.reading, self.level, self.direction)
        )
        share = torch.einsum("ntc,tck->nk", x, reading)[:, None] if self.is_read_over_places else x @ reading[0]
        weight = (share + level) * self.scale
        return weight @ direction[0] if len(direction) == 1 else torch.einsum("ntk,tkc->ntc", weight, direction)


def _joined(tensors: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    """Concatenated along a dimension, after broadcasting the others."""
    others = torch.broadcast_shapes(*(tensor.select(dim, 0).shape for tensor in tensors))
    at = len(others) + 1 + dim
    return torch.cat([one.expand(*others[:at], one.shape[dim], *others[at:]) for one in tensors], dim)
