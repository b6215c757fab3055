"""`respodiff calibrate`: the smallest strength at which a concept reaches an accuracy, and the scales of crossed axes.

Concepts need different strengths, and two vectors added to the same h interfere; in the paper both are set by hand
(section 5.4, limitations). Here both are searched on small batches of images, and saved as the file's recommendation.
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

GRID = tuple(round(0.05 * step, 2) for step in range(1, 81))
"""Strengths to try: up to twice what the nodes' sliders reach, which low guidance scales may need."""
SCALES = (0.7, 0.85, 1.0, 1.15, 1.3)

Hits = Callable[[Sequence[FairGroup], int], np.ndarray]
"""Generates images, starting at number `first`, one steered by each group, and returns whether each shows the requested
class of each axis: (images, axes), bool. The same number always has the same prompt and seed.
"""


@dataclass(frozen=True)
class Found:
    """A strength, in units of the file's vectors: `hits` of `images` show what was requested, `spent` images were
    generated in the search, and `reached` is whether the accuracy is reached.
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
        """Wilson's 95 % interval of the accuracy."""
        return _interval(self.hits, self.images)


@dataclass(frozen=True)
class Search:
    """Settings of a search: the accuracy to reach, and up to `images` per strength, `chunk` at a time until decided."""

    accuracy: float
    images: int = 64
    chunk: int = 16


def smallest_strength(concept: Concept, hits: Hits, search: Search) -> Found:
    """The smallest strength of the grid that reaches the accuracy, or else the one with the highest accuracy.

    Bisection finds a candidate; then strengths are checked upwards from it, on images with other seeds, until one
    reaches the accuracy. Bisection assumes that accuracy rises with strength, which fails far beyond 1; the check
    notices this.
    """
    spent = 0

    def measure(strength: float, first: int, *, until_clear: bool) -> tuple[int, int]:
        nonlocal spent
        group = FairGroup(concept.name, (Term(concept, strength),))
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

    low, high = -1, len(GRID) - 1  # `low` is too weak, `high` may be enough
    while high - low > 1:
        middle = (low + high) // 2
        right, count = measure(GRID[middle], 0, until_clear=True)
        log.debug("%s at %g: %d of %d", concept.name, GRID[middle], right, count)
        low, high = (low, middle) if right >= search.accuracy * count else (middle, high)
    tried: list[Found] = []
    for strength in GRID[high:]:
        right, count = measure(strength, search.images, until_clear=False)
        reached = right >= search.accuracy * count
        tried.append(Found(strength, right, count, spent, reached))
        falling = len(tried) > 2 and tried[-1].hits < max(one.hits for one in tried[:-2])
        if reached or falling:
            break
    best = tried[-1] if tried[-1].reached else max(tried, key=lambda one: (one.hits, -one.strength))
    return replace(best, spent=spent)


@dataclass(frozen=True)
class FoundScales:
    """Scales of two axes and the accuracy of each over `images` images; `spent` images were generated in the search."""

    scales: tuple[float, float]
    accuracies: tuple[float, float]
    images: int
    spent: int


def best_scales(first: Sequence[FairGroup], second: Sequence[FairGroup], hits: Hits, search: Search) -> FoundScales:
    """The scales of two crossed axes that maximize the lower of both accuracies; the smaller scales if equal.

    Successive halving: all pairs on a few images, the better half on twice as many, and so on.
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

        def score(scales: tuple[float, float]) -> tuple[float, float]:
            worse = float(np.concatenate(results[scales]).mean(axis=0).min())
            return min(worse, search.accuracy), -sum(scales)

        candidates.sort(key=score, reverse=True)
        if len(candidates) == 1 or (count >= search.images and len(candidates) <= 3):
            groups = crossed(first, second, *candidates[0])
            # On new images: those of the search favour the chosen pair.
            checked = hits([groups[number % each] for number in range(search.images)], count)
            one, other = checked.mean(axis=0)
            return FoundScales(candidates[0], (float(one), float(other)), len(checked), spent + len(checked))
        candidates = candidates[: max(len(candidates) // 2, 1)]
        wanted = count  # doubles the total


def axes_in(adapter: Adapter) -> dict[str, list[Concept]]:
    """The fairness concepts of the file by axis."""
    by_axis: dict[str, list[Concept]] = {}
    for concept in adapter.concepts.values():
        if concept.info.category == "fairness" and axis_of(concept.info):
            by_axis.setdefault(axis_of(concept.info), []).append(concept)
    return by_axis


def with_strengths(adapter: Adapter, strengths: Mapping[str, float]) -> Adapter:
    """The adapter with these recommended strengths, in units of its vectors."""
    concepts = {
        name: replace(one, info=replace(one.info, strength=strengths.get(name, one.info.strength)))
        for name, one in adapter.concepts.items()
    }
    return replace(adapter, concepts=concepts)


def with_guidance(adapter: Adapter, factors: Mapping[str, tuple[tuple[float, float], ...]]) -> Adapter:
    """The adapter with these factors on the strength over the guidance scale, by concept."""
    concepts = {
        name: replace(one, info=replace(one.info, guidance=factors.get(name, one.info.guidance)))
        for name, one in adapter.concepts.items()
    }
    return replace(adapter, concepts=concepts)


def with_scales(adapter: Adapter, scales: Mapping[tuple[str, str], float]) -> Adapter:
    """The adapter with these recommended scales: (axis, the axis it is crossed with) -> scale."""
    concepts = {}
    for name, one in adapter.concepts.items():
        own = {other: scale for (axis, other), scale in scales.items() if axis == axis_of(one.info)}
        fair = one.info.category == "fairness"
        concepts[name] = replace(one, info=replace(one.info, scales={**one.info.scales, **own})) if fair else one
    return replace(adapter, concepts=concepts)


def pairs_of_axes(adapter: Adapter) -> Iterable[tuple[str, str]]:
    """All pairs of axes in the file."""
    return combinations(axes_in(adapter), 2)


class CachedHits:
    """Hits cached in a file, so that a stopped calibration resumes without generating an image twice."""

    def __init__(self, path: Path, fingerprint: str, generate: Hits) -> None:
        """`fingerprint` identifies the model, settings, prompts and scorers."""
        self._path, self._fingerprint, self._generate = path, fingerprint, generate
        self._known: dict[str, list[list[bool]]] = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    self._known |= json.loads(line)
                except ValueError:  # an incomplete line
                    continue

    def __call__(self, given: Sequence[FairGroup], first: int) -> np.ndarray:
        steering = [[(t.concept.name, t.ram_strength, t.sam_strength) for t in group.terms] for group in given]
        key = json.dumps([self._fingerprint, first, steering])
        if key not in self._known:
            self._known[key] = self._generate(given, first).tolist()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({key: self._known[key]}))
        return np.array(self._known[key], dtype=bool)


def _interval(hits: int, count: int) -> tuple[float, float]:
    interval = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
