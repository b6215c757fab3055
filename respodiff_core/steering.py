"""A plan of what is added to h: which concepts, how strongly, on whose rows, in which part of sampling.

A plan is immutable and plans add up. However many concepts it holds, those that do not look at h are summed
once into one tensor per device, dtype and size, so that a step costs one add.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from .concept import Concept
from .errors import StrengthError
from .transforms import Transform

Prompt = Literal["positive", "negative", "both"]
"""Whose rows are steered: those of the positive prompt (the method's own choice), the negative, or both."""

_CACHED_SIZES = 8


@dataclass(frozen=True)
class Window:
    """The part of the sampling schedule in which a concept acts, as ControlNet's start and end percent."""

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise StrengthError(
                f"The window from {self.start:g} to {self.end:g} is empty or out of range: start_percent must be "
                "between 0 and end_percent, end_percent at most 1."
            )

    @property
    def is_whole(self) -> bool:
        return self.start <= 0.0 and self.end >= 1.0


@dataclass(frozen=True)
class Term:
    """One concept in a plan: h + ram_strength * RAM + sam_strength * SAM (paper, section 4)."""

    concept: Concept
    ram_strength: float
    sam_strength: float
    window: Window = Window()
    prompt: Prompt = "positive"

    def __post_init__(self) -> None:
        if self.concept.info.category == "safety" and min(self.ram_strength, self.sam_strength) < 0:
            raise StrengthError(
                f"{self.concept.name!r} is a safety concept: its vector already points away from the unsafe "
                "content, and a negative strength would steer towards it. Use a strength of 0 or more."
            )


class Group:
    """The terms of a plan that act in one window on one prompt's rows, fused."""

    def __init__(self, window: Window, prompt: Prompt, terms: Iterable[Term]):
        self.window = window
        self.prompt = prompt
        modules = [(s, m) for t in terms for s, m in ((t.ram_strength, t.concept.ram), (t.sam_strength, t.concept.sam))]
        active = [(strength, module) for strength, module in modules if strength]
        fixed = tuple((strength, module) for strength, module in active if not module.looks_at_h)
        looking = tuple((strength, module) for strength, module in active if module.looks_at_h)
        # Closures over plain values, not bound methods: the caches must not keep the group alive.
        self._sum_of_fixed = lru_cache(maxsize=_CACHED_SIZES)(lambda *key: _sum_fields(fixed, *key))
        self._looking_on = lru_cache(maxsize=_CACHED_SIZES)(
            lambda device, dtype: tuple((strength, module.to(device, dtype)) for strength, module in looking)
        )
        self._has_fixed = bool(fixed)
        self._has_looking = bool(looking)

    def delta(self, h: torch.Tensor) -> torch.Tensor:
        """What is added to h (rows, C, height, width), in h's dtype on h's device; broadcasts against h.

        What does not depend on h is computed in fp32 once per (device, dtype, height, width) and kept.
        """
        parts = []
        if self._has_fixed:
            parts.append(self._sum_of_fixed(h.device, h.dtype, h.shape[-2], h.shape[-1]))
        if self._has_looking:
            parts += [module(h) * strength for strength, module in self._looking_on(h.device, h.dtype)]
        return sum(parts[1:], start=parts[0])


def _sum_fields(
    fixed: tuple[tuple[float, Transform], ...],
    device: torch.device,
    dtype: torch.dtype,
    height: int,
    width: int,
) -> torch.Tensor:
    total = torch.zeros(())
    for strength, module in fixed:
        total = total + module.field(height, width) * strength
    return total.to(device=device, dtype=dtype)


@dataclass(frozen=True)
class Steering:
    """An immutable plan; `a + b` adds both, in either order with the same effect."""

    terms: tuple[Term, ...]

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def groups(self) -> tuple[Group, ...]:
        """The fewest adds that do the plan: one per window and prompt."""
        by_key: dict[tuple[Window, Prompt], list[Term]] = {}
        for term in self.terms:
            if term.ram_strength or term.sam_strength:
                by_key.setdefault((term.window, term.prompt), []).append(term)
        return tuple(Group(window, prompt, terms) for (window, prompt), terms in by_key.items())
