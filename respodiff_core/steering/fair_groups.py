"""Groups that the images of a batch are assigned to, and the steering plan for such an assignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch

from ..errors import ShareError
from ..names import MIDDLE
from .allocation import balanced, drawn
from .prompt_guard import axis_of
from .steering import Group, Steering, Term

Allocation = Literal["balanced", "random"]
"""Quotas that are exact over runs, or an independent draw for every image as in the paper."""

NONE = "none"
"""The group name of an unsteered image."""

AND = " + "
"""Separates the names in a crossed group."""


@dataclass(frozen=True)
class FairGroup:
    """A group: its name, the terms that steer its images (empty: unsteered), and its target share."""

    name: str
    terms: tuple[Term, ...]
    share: float = 1.0

    @classmethod
    def unsteered(cls, share: float = 1.0) -> FairGroup:
        return cls(NONE, (), share)


def crossed(
    first: Sequence[FairGroup], second: Sequence[FairGroup], first_scale: float = 1.0, second_scale: float = 1.0
) -> tuple[FairGroup, ...]:
    """Every group of one axis combined with every group of the other. Shares are multiplied.

    The scales are factors on the strengths of each axis, since two vectors added to the same h interfere
    (arXiv 2509.15257 uses 1.1 for gender and 0.9 for race). At 1 the scales in the metadata of the concepts apply.
    """
    return tuple(
        FairGroup(
            AND.join(group.name for group in (a, b) if group.terms) or NONE,
            _scaled(a.terms, first_scale, b.terms) + _scaled(b.terms, second_scale, a.terms),
            a.share * b.share,
        )
        for a in first
        for b in second
    )


def allocate(
    groups: Sequence[FairGroup], images: int, seed: int, allocation: Allocation = "balanced"
) -> tuple[FairGroup, ...]:
    """The group of each image. Raises ShareError for no groups and for invalid shares."""
    if not groups:
        raise ShareError("No group is connected: connect a Fair Group node or several.")
    shares = [group.share for group in groups]
    numbers = balanced(shares, images, seed) if allocation == "balanced" else drawn(shares, images, seed)
    return tuple(groups[number] for number in numbers)


def plan(given: Sequence[FairGroup]) -> Steering:
    """The steering plan in which image i is steered by the terms of `given[i]`."""
    distinct = {id(group): group for group in given}.values()
    images = {id(group): tuple(float(one is group) for one in given) for group in distinct}
    return Steering(tuple(replace(term, images=images[id(group)]) for group in distinct for term in group.terms))


class RowSteering:
    """Steers row i of a batch by the terms of its group, at every step, whatever their windows and prompts."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self.sites = frozenset(site for group in groups for site in group.sites)

    def middle(self, h: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """h (rows, C, H, W) steered; `sigmas` (rows,) is the noise level."""
        for group in self._groups:
            if MIDDLE in group.sites:
                h = h + group.delta(h, sigmas=sigmas)
        return h

    def layer(self, site: str, x: torch.Tensor, size: tuple[int, int], sigmas: torch.Tensor) -> torch.Tensor:
        """The output x (rows, tokens, C) of a cross-attention layer of that size steered."""
        for group in self._groups:
            if site in group.sites:
                x = x + group.layer_delta(site, x, size, sigmas)
        return x


def steer_rows(given: Sequence[FairGroup]) -> RowSteering | None:
    """The steering of a batch in which row i belongs to `given[i]`; None if it has no effect."""
    groups = plan(given).groups()
    return RowSteering(groups) if groups else None


def _scaled(terms: tuple[Term, ...], scale: float, others: tuple[Term, ...]) -> tuple[Term, ...]:
    """The terms multiplied by `scale` and by the scales in their metadata for the axes of `others`."""
    axes = {axis_of(other.concept.info) for other in others}
    scaled = []
    for term in terms:
        factor = scale * prod(value for axis, value in term.concept.info.scales.items() if axis.casefold() in axes)
        scaled.append(replace(term, strength=term.strength * factor))
    return tuple(scaled)
