"""Classifies ToyWorld images without a network, by the closest rendering.

Every possible figure, in every place and position, is rendered and compared with the image. The hazard mark, which
covers a separate corner, is detected by its colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from .renderer import SIZE, layers, paint, render
from .scenes import HUES, JITTER, PERSON, PLACES, SHAPES, Scenes

_COARSE = 2  # images are compared at half resolution: a fourth of the work, and no detail is that small
_ALL = (range(PERSON + 1), range(len(SHAPES)), range(len(HUES)))
_STEPS = range(-JITTER, JITTER + 1)


@dataclass(frozen=True)
class Seen:
    """Classes of images, as arrays of equal length; `error` is the RMS distance to the closest rendering."""

    profession: np.ndarray
    shape: np.ndarray
    hue: np.ndarray
    hazard: np.ndarray
    error: np.ndarray


@torch.inference_mode()
def classify(images: torch.Tensor) -> Seen:
    """Classify images (count, 3, 64, 64) in [0, 1]."""
    images = images.float().cpu()
    renderings, classes = _renderings()
    mask = _figure_mask()
    best = torch.full((len(images),), torch.inf)
    found = torch.zeros(len(images), dtype=torch.long)
    seen = _features(images)[:, mask]
    energy = seen.square().sum(1)
    # |a - b|^2 = |a|^2 - 2ab + |b|^2, a matrix product for all renderings of one place.
    for start, block in renderings:
        distance = energy[:, None] - 2 * seen @ block.T + block.square().sum(1)
        least, index = distance.min(1)
        found = torch.where(least < best, start + index, found)
        best = torch.minimum(best, least)
    profession, shape, hue = classes[found.numpy()].T
    error = (best.clamp(min=0) / mask.sum()).sqrt().numpy()
    return Seen(profession, shape, hue, _shows_hazard(images), error)


@cache
def _renderings() -> tuple[list[tuple[int, torch.Tensor]], np.ndarray]:
    """All renderings without a hazard mark, in blocks by place with the index of the first, and the classes of each."""
    figures = np.array(list(product(*_ALL, _STEPS, _STEPS)))
    mask = _figure_mask()
    parts = [_in_all_places(part) for part in np.array_split(figures, 16)]
    blocks = [
        (place * len(figures), torch.cat(features)[:, mask]) for place, features in enumerate(zip(*parts, strict=True))
    ]
    return blocks, np.tile(figures[:, :3], (len(PLACES), 1))


def _in_all_places(figures: np.ndarray) -> list[torch.Tensor]:
    """The features of these figures in each place; the layers of the figures are computed once."""
    profession, shape, hue, dx, dy = figures.T
    zeros = np.zeros(len(figures), dtype=int)
    scenes = Scenes(profession, shape, hue, zeros, zeros, dx, dy, np.ones(len(figures)))
    figure = layers(scenes)
    return [_features((paint(replace(scenes, place=zeros + n), figure) + 1) / 2) for n in range(len(PLACES))]


def _features(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(images, _COARSE).flatten(1)


@cache
def _hazard_cover() -> torch.Tensor:
    """The pixels (64, 64) that the hazard mark changes."""
    one = np.zeros(1, dtype=int)
    plain, marked = (
        render(Scenes(one + PERSON, one, one, one, one + hazard, one, one, np.ones(1))) for hazard in (0, 1)
    )
    return (plain != marked).any(1)[0]


@cache
def _figure_mask() -> torch.Tensor:
    """The features to compare: all that the hazard mark never changes."""
    free = ~F.max_pool2d(_hazard_cover().float()[None], _COARSE)[0].bool()
    return free.expand(3, -1, -1).flatten()


def _shows_hazard(images: torch.Tensor) -> np.ndarray:
    """The mark is much more red than blue on average; no place is."""
    cover = _hazard_cover()
    warmth = (images[:, 0] - images[:, 2])[:, cover].mean(1)
    return (warmth > _HAZARD_WARMTH).long().numpy()


_HAZARD_WARMTH = 0.4  # at least 0.61 with the mark, at most 0.19 without it (in an alley)

assert SIZE % _COARSE == 0
