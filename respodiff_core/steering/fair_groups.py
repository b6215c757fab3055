"""Groups of people that the images of a batch are shared among, and the plan that gives each image its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from ..errors import ShareError
from .allocation import balanced, drawn
from .prompt_guard import axis_of
from .steering import Steering, Term

Allocation = Literal["balanced", "random"]
"""Whole quotas that add up over runs, or every image drawn by itself as in the paper."""

NONE = "none"
"""What an image is called that no concept steers."""

AND = " + "
"""Between the names of a crossed group."""


@dataclass(frozen=True)
class FairGroup:
    """What an image may be given: a name, the terms that steer it (none: it stays as it is), and a target share."""

    name: str
    terms: tuple[Term, ...]
    share: float = 1.0

    @classmethod
    def unsteered(cls, share: float = 1.0) -> FairGroup:
        return cls(NONE, (), share)


def crossed(
    first: Sequence[FairGroup], second: Sequence[FairGroup], first_scale: float = 1.0, second_scale: float = 1.0
) -> tuple[FairGroup, ...]:
    """Every group of one axis with every one of the other, shares multiplied.

    The scales multiply each axis' strengths: two vectors added to one h interfere (the paper found 1.1 for gender
    and 0.9 for race better than 1 and 1). Scales of 1 are those that a concept's file recommends for that other axis.
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
    """The group of each image. Raises ShareError."""
    if not groups:
        raise ShareError("No group is connected: connect a Fair Group, or several.")
    shares = [group.share for group in groups]
    numbers = balanced(shares, images, seed) if allocation == "balanced" else drawn(shares, images, seed)
    return tuple(groups[number] for number in numbers)


def plan(given: Sequence[FairGroup]) -> Steering:
    """The steering that adds to image i what group i of `given` says, and to no other image."""
    distinct = {id(group): group for group in given}.values()
    images = {id(group): tuple(float(one is group) for one in given) for group in distinct}
    return Steering(tuple(replace(term, images=images[id(group)]) for group in distinct for term in group.terms))


def _scaled(terms: tuple[Term, ...], scale: float, others: tuple[Term, ...]) -> tuple[Term, ...]:
    """The terms at `scale` times what their files recommend beside these others."""
    axes = {axis_of(other.concept.info) for other in others}
    scaled = []
    for term in terms:
        factor = scale * prod(value for axis, value in term.concept.info.scales.items() if axis.casefold() in axes)
        scaled.append(replace(term, ram_strength=term.ram_strength * factor, sam_strength=term.sam_strength * factor))
    return tuple(scaled)
