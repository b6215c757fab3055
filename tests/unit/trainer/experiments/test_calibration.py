"""The search for strengths and scales, on concepts whose effect is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from respodiff.respodiff_core.adapter.adapter import Adapter, read, write
from respodiff.respodiff_core.steering.fair_groups import FairGroup, crossed
from respodiff.respodiff_core.steering.steering import Term
from respodiff.trainer.experiments.calibration import (
    GRID,
    CachedHits,
    Search,
    best_scales,
    smallest_strength,
    with_scales,
    with_strengths,
)
from toyworld_adapters import concept

ROUND = concept("round", "shape")


class Made:
    """Pictures that show what was asked with a chance that depends on the strengths alone; counts them."""

    def __init__(self, chance: Callable[..., Sequence[float]], seed: int = 0) -> None:
        self.chance, self.seed = chance, seed
        self.count = 0

    def __call__(self, given: Sequence[FairGroup], first: int) -> np.ndarray:
        self.count += len(given)
        hits = []
        for number, group in enumerate(given, first):
            chances = self.chance(*(term.ram_strength for term in group.terms))
            luck = np.random.default_rng([self.seed, number]).random(len(chances))
            hits.append(luck < np.array(chances))
        return np.array(hits)


def step_at(strength: float) -> Made:
    """Nothing below, everything from there on."""
    return Made(lambda s: [float(s >= strength)])


@pytest.mark.parametrize("strength", [0.05, 0.3, 0.75, 1.0, 1.65, 2.0])
def test_the_smallest_strength_that_is_enough_is_found(strength):
    made = step_at(strength)
    found = smallest_strength(ROUND, made, Search(0.9))
    assert found.strength == strength
    assert found.reached
    assert found.accuracy == 1


def test_clear_cases_take_few_pictures():
    """A tenth of what 64 pictures at each of the forty strengths would be."""
    made = step_at(0.6)
    found = smallest_strength(ROUND, made, Search(0.9, images=64, chunk=16))
    assert made.count == found.spent <= len(GRID) * 64 / 10


def test_no_strength_is_looked_at_with_more_pictures_than_asked_for():
    made = Made(lambda s: [0.5])
    found = smallest_strength(ROUND, made, Search(0.9, images=20, chunk=16))
    assert found.images == 20


def test_a_soft_rise_ends_near_what_was_asked():
    """Showing it rises evenly from never at 0 to always at 1: 80 % is at 0.8."""
    for seed in range(5):
        found = smallest_strength(ROUND, Made(lambda s: [min(s, 1.0)], seed), Search(0.8))
        assert found.reached
        assert 0.6 <= found.strength <= 1.0
        low, high = found.interval
        assert low <= found.accuracy <= high


def test_what_no_strength_reaches_is_said_with_the_best():
    """Best at 1, where half of the pictures show it, and worse on both sides."""
    found = smallest_strength(ROUND, Made(lambda s: [0.5 - 0.4 * abs(s - 1)]), Search(0.9))
    assert not found.reached
    assert found.accuracy < 0.9


def test_other_pictures_check_what_the_search_found():
    """The first 64 are lucky and show it at once; the others do from 0.5 on."""

    def hits(given: Sequence[FairGroup], first: int) -> np.ndarray:
        strength = given[0].terms[0].ram_strength
        return np.array([[number < 64 or strength >= 0.5] for number in range(first, first + len(given))])

    assert smallest_strength(ROUND, hits, Search(0.9, images=64)).strength == 0.5


def groups(*names: str, axis: str) -> list[FairGroup]:
    return [FairGroup(name, (Term.of(concept(name, axis), 1.0),)) for name in names]


def test_scales_help_the_axis_that_loses():
    """The second axis shows only where it is scaled up and the first is not."""

    def chance(first: float, second: float) -> Sequence[float]:
        return [float(first >= 0.85), float(second >= 1.15 and first <= 1.0)]

    made = Made(chance)
    found = best_scales(groups("a", "b", axis="shape"), groups("c", "d", axis="hue"), made, Search(0.9))
    assert found.scales == (0.85, 1.15), "the smallest that are enough"
    assert found.accuracies == (1, 1)
    assert found.images == 64, "other ones than those it was chosen by"
    assert made.count == found.spent < 25 * 64, "far from all pairs were looked at long"


class TestTheFile:
    ADAPTER = Adapter(
        "toyworld",
        {
            "round": concept("round", "shape"),
            "teal": concept("teal", "hue"),
            "hazard": concept("hazard", "", category="safety"),
        },
        "epsilon",
    )

    def test_recommends_what_was_found(self, tmp_path):
        adapter = with_strengths(self.ADAPTER, {"round": 0.6, "hazard": 1.4})
        adapter = with_scales(adapter, {("shape", "hue"): 1.15, ("hue", "shape"): 0.85})
        again = read(write(adapter, tmp_path / "a.safetensors"))
        assert [one.info.strength for one in again.concepts.values()] == [0.6, 1.0, 1.4]
        assert [one.info.scales for one in again.concepts.values()] == [{"hue": 1.15}, {"shape": 0.85}, {}]

    def test_is_used_by_crossed_groups(self):
        adapter = with_scales(with_strengths(self.ADAPTER, {"round": 0.6}), {("shape", "hue"): 0.5})
        first, second = ([FairGroup(name, (Term.of(adapter.concepts[name], 1.0),))] for name in ("round", "teal"))
        (both,) = crossed(first, second)
        assert [term.ram_strength for term in both.terms] == [pytest.approx(0.3), 1.0]


def test_a_stopped_search_draws_nothing_twice(tmp_path):
    path = tmp_path / "kept.jsonl"
    made = step_at(0.6)
    found = smallest_strength(ROUND, CachedHits(path, "one", made), Search(0.9))
    with open(path, "a") as file:
        file.write('\n{"cut of')

    again = step_at(0.6)
    assert smallest_strength(ROUND, CachedHits(path, "one", again), Search(0.9)) == found
    assert again.count == 0
    smallest_strength(ROUND, CachedHits(path, "another model", again), Search(0.9))
    assert again.count == made.count
