"""`respodiff calibrate`: the smallest strength at which a concept does what is asked, and how to cross two axes.

One strength fits no two concepts, and two vectors on one h interfere; the paper leaves both to the eye (section 5.4,
limitations). Here both are searched for on pictures, few at a time, and written into the file as what it recommends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.steering.fair_groups import FairGroup, crossed
from ...respodiff_core.steering.prompt_guard import axis_of
from ...respodiff_core.steering.steering import Term

log = logging.getLogger(__name__)

GRID = tuple(round(0.05 * step, 2) for step in range(1, 41))
"""Strengths that are looked at: what sliders can say."""
SCALES = (0.7, 0.85, 1.0, 1.15, 1.3)

Hits = Callable[[Sequence[FairGroup], int], np.ndarray]
"""Pictures number `first` on, one steered by each group: for each whether it shows all that was asked, by axis
(pictures, axes). The same number is always the same prompt and seed.
"""


@dataclass(frozen=True)
class Found:
    """A strength in units of the file's vectors, how many of the pictures there show what was asked, and how many
    pictures were made to find it; `reached`: whether it is enough.
    """

    strength: float
    hits: int
    images: int
    spent: int
    reached: bool

    @property
    def accuracy(self) -> float:
        return self.hits / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return _interval(self.hits, self.images)


@dataclass(frozen=True)
class Search:
    """How carefully to look: up to `pictures` for each strength, `chunk` at a time until it is clear."""

    accuracy: float
    images: int = 64
    chunk: int = 16


def smallest_strength(concept: Concept, hits: Hits, search: Search) -> Found:
    """The smallest strength of the grid that reaches the accuracy, by bisection, and by going up from there on pictures
    of other seeds until it holds. Where none does: the one that came nearest.

    More strength is taken to show more of the concept; far beyond 1 that ends, which the second part notices.
    """
    spent = 0

    def look(strength: float, first: int, *, until_clear: bool) -> tuple[int, int]:
        nonlocal spent
        group = FairGroup(concept.name, (Term(concept, strength, strength),))
        right = count = 0
        while count < search.images:
            more = min(search.chunk, search.images - count)
            right += int(hits([group] * more, first + count).all(axis=1).sum())
            count += more
            spent += more
            low, high = _interval(right, count)
            if until_clear and not low <= search.accuracy <= high:
                break
        return right, count

    low, high = -1, len(GRID) - 1  # below `low` it is not enough, at `high` it may be
    while high - low > 1:
        middle = (low + high) // 2
        right, count = look(GRID[middle], 0, until_clear=True)
        log.debug("%s at %g: %d of %d", concept.name, GRID[middle], right, count)
        low, high = (low, middle) if right >= search.accuracy * count else (middle, high)
    tried: list[Found] = []
    for strength in GRID[high:]:
        right, count = look(strength, search.images, until_clear=False)
        reached = right >= search.accuracy * count
        tried.append(Found(strength, right, count, spent, reached))
        falling = len(tried) > 2 and tried[-1].hits < max(one.hits for one in tried[:-2])
        if reached or falling:
            break
    best = tried[-1] if tried[-1].reached else max(tried, key=lambda one: (one.hits, -one.strength))
    return replace(best, spent=spent)


@dataclass(frozen=True)
class FoundScales:
    """Scales of two axes, the accuracy of each, of so many pictures, and how many pictures were made to find them."""

    scales: tuple[float, float]
    accuracies: tuple[float, float]
    images: int
    spent: int


def best_scales(first: Sequence[FairGroup], second: Sequence[FairGroup], hits: Hits, search: Search) -> FoundScales:
    """The scales of two crossed axes with which the worse of both shows most often, the smaller ones where it makes no
    difference; by successive halving: all pairs on a few pictures, the better half on twice as many, and so on.
    """
    each = len(first) * len(second)
    candidates = list(product(SCALES, SCALES))
    results: dict[tuple[float, float], list[np.ndarray]] = {scales: [] for scales in candidates}
    count, spent = 0, 0
    wanted = max(search.chunk // each, 1) * each
    while True:
        for scales in candidates:
            groups = crossed(first, second, *scales)
            given = [groups[number % each] for number in range(wanted)]
            results[scales].append(hits(given, count))
            spent += wanted
        count += wanted

        def worth(scales: tuple[float, float]) -> tuple[float, float]:
            worse = float(np.concatenate(results[scales]).mean(axis=0).min())
            return min(worse, search.accuracy), -sum(scales)

        candidates.sort(key=worth, reverse=True)
        if len(candidates) == 1 or (count >= search.images and len(candidates) <= 3):
            groups = crossed(first, second, *candidates[0])
            # On other pictures than those it was chosen by, where it had luck.
            checked = hits([groups[number % each] for number in range(search.images)], count)
            one, other = checked.mean(axis=0)
            return FoundScales(candidates[0], (float(one), float(other)), len(checked), spent + len(checked))
        candidates = candidates[: max(len(candidates) // 2, 1)]
        wanted = count  # twice as many in all


def axes_in(adapter: Adapter) -> dict[str, list[Concept]]:
    """The file's fairness concepts by axis."""
    by_axis: dict[str, list[Concept]] = {}
    for concept in adapter.concepts.values():
        if concept.info.category == "fairness" and axis_of(concept.info):
            by_axis.setdefault(axis_of(concept.info), []).append(concept)
    return by_axis


def with_strengths(adapter: Adapter, strengths: Mapping[str, float]) -> Adapter:
    """The adapter that recommends these strengths, in units of its vectors."""
    concepts = {
        name: replace(one, info=replace(one.info, strength=strengths.get(name, one.info.strength)))
        for name, one in adapter.concepts.items()
    }
    return replace(adapter, concepts=concepts)


def with_scales(adapter: Adapter, scales: Mapping[tuple[str, str], float]) -> Adapter:
    """The adapter that recommends these scales: (axis, beside which other axis) -> scale."""
    concepts = {}
    for name, one in adapter.concepts.items():
        own = {other: scale for (axis, other), scale in scales.items() if axis == axis_of(one.info)}
        fair = one.info.category == "fairness"
        concepts[name] = replace(one, info=replace(one.info, scales={**one.info.scales, **own})) if fair else one
    return replace(adapter, concepts=concepts)


def pairs_of_axes(adapter: Adapter) -> Iterable[tuple[str, str]]:
    """Every two axes of the file."""
    return combinations(axes_in(adapter), 2)


class KeptHits:
    """Hits that are kept in a file, so that a stopped calibration goes on: nothing is drawn twice."""

    def __init__(self, path: Path, made_of: str, draw: Hits) -> None:
        """`made_of` tells one set of pictures and judges from another."""
        self._path, self._made_of, self._draw = path, made_of, draw
        self._known: dict[str, list[list[bool]]] = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    self._known |= json.loads(line)
                except ValueError:  # cut off
                    continue

    def __call__(self, given: Sequence[FairGroup], first: int) -> np.ndarray:
        steering = [[(t.concept.name, t.ram_strength, t.sam_strength) for t in group.terms] for group in given]
        key = json.dumps([self._made_of, first, steering])
        if key not in self._known:
            self._known[key] = self._draw(given, first).tolist()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({key: self._known[key]}))
        return np.array(self._known[key], dtype=bool)


def _interval(hits: int, count: int) -> tuple[float, float]:
    interval = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
