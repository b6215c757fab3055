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
from .steering import Group, Steering, Term, per_image

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

    def with_gates(self) -> FairGroup:
        """The group of which images are left alone if their prompt already names a group of the axis.

        Raises StrengthError if a concept has no gate.
        """
        return replace(self, terms=tuple(replace(term, gated=True) for term in self.terms))


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

    def __init__(self, groups: Sequence[Group], tokens: torch.Tensor | None = None) -> None:
        self._groups = groups
        gates = {group.gate for group in groups if group.gate is not None}
        self._open = {} if tokens is None else {gate: gate.is_open(tokens) for gate in gates}
        self.sites = frozenset(site for group in groups for site in group.sites)

    def middle(self, h: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """h (rows, C, H, W) steered; `sigmas` (rows,) is the noise level."""
        for group in self._groups:
            if MIDDLE in group.sites:
                h = self._with(h, group.delta(h, sigmas=sigmas), group)
        return h

    def layer(self, site: str, x: torch.Tensor, size: tuple[int, int], sigmas: torch.Tensor) -> torch.Tensor:
        """The output x (rows, tokens, C) of a cross-attention layer of that size steered."""
        for group in self._groups:
            if site in group.sites:
                x = self._with(x, group.layer_delta(site, x, size, sigmas), group)
        return x

    def _with(self, rows: torch.Tensor, delta: torch.Tensor, group: Group) -> torch.Tensor:
        is_open = self._open.get(group.gate) if group.gate is not None else None
        return rows + delta if is_open is None else torch.where(per_image(is_open, rows), rows + delta, rows)


def steer_rows(
    given: Sequence[FairGroup], tokens: torch.Tensor | None = None, guidance: Sequence[float] | None = None
) -> RowSteering | None:
    """The steering of a batch in which row i belongs to `given[i]`; None if it has no effect.

    `tokens` (rows, T, C) are the text encodings of the prompts, which gates read; without them, all gates are open.
    `guidance` are the guidance scales of the rows; without them, strengths are as they are.
    """
    if guidance is not None:
        # One object for all rows of a group at a scale: rows with the same object are steered together.
        at = {
            (id(group), scale): replace(group, terms=tuple(term.at_guidance(scale) for term in group.terms))
            for group, scale in zip(given, guidance, strict=True)
        }
        given = [at[id(group), scale] for group, scale in zip(given, guidance, strict=True)]
    groups = plan(given).groups()
    return RowSteering(groups, tokens) if groups else None


def _scaled(terms: tuple[Term, ...], scale: float, others: tuple[Term, ...]) -> tuple[Term, ...]:
    """The terms multiplied by `scale` and by the scales in their metadata for the axes of `others`."""
    axes = {axis_of(other.concept.info) for other in others}
    scaled = []
    for term in terms:
        factor = scale * prod(value for axis, value in term.concept.info.scales.items() if axis.casefold() in axes)
        scaled.append(replace(term, strength=term.strength * factor))
    return tuple(scaled)
