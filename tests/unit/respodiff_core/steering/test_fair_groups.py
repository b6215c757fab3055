"""Groups that a batch is shared among, crossed groups, and the plan that gives each image its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from adapters import SIZES, random_concept
from respodiff.respodiff_core.adapter.concept import Concept
from respodiff.respodiff_core.errors import ShareError
from respodiff.respodiff_core.steering.fair_groups import NONE, FairGroup, allocate, crossed, plan
from respodiff.respodiff_core.steering.steering import Term

h = torch.randn(6, SIZES["C"], 4, 4, generator=torch.Generator().manual_seed(7))


def group(name: str, share: float = 1.0, strength: float = 1.0, seed: int = 0) -> FairGroup:
    return FairGroup(name, (Term(random_concept(name, seed=seed), strength),), share)


def added(given: tuple[FairGroup, ...]) -> torch.Tensor:
    return sum(part.delta(h) for part in plan(given).groups())


WOMAN, MAN = group("woman", seed=1), group("man", seed=3)


def test_each_image_is_steered_by_its_own_group_alone():
    given = (WOMAN, MAN, FairGroup.unsteered(), MAN, WOMAN, WOMAN)
    result = added(given)
    for image, one in enumerate(given):
        expected = sum((term.concept.ram(h) + term.concept.sam(h) for term in one.terms), torch.zeros(h.shape[1:]))
        torch.testing.assert_close(result[image], expected)


def test_shares_are_met_and_some_may_stay_unsteered():
    names = [one.name for one in allocate([WOMAN, MAN, FairGroup.unsteered(2)], 20, seed=5)]
    assert Counter(names) == {"woman": 5, "man": 5, NONE: 10}


def test_sixty_four_groups_can_share_a_batch():
    groups = [group(f"group {i}", seed=i) for i in range(64)]
    given = allocate(groups, 64, seed=1)
    assert sorted(one.name for one in given) == sorted(one.name for one in groups)
    assert plan(given).batch_size == 64


def test_a_batch_of_one_goes_through_the_groups_run_by_run():
    assert {allocate([WOMAN, MAN], 1, seed)[0].name for seed in (8, 9)} == {"woman", "man"}


def test_a_plan_without_any_steered_image_adds_nothing():
    assert plan((FairGroup.unsteered(),) * 4).groups() == ()


def test_nothing_connected_is_said():
    with pytest.raises(ShareError, match="connect a Fair Group"):
        allocate([], 4, 0)


class TestCrossed:
    races = (group("asian", 3, seed=5), group("black", 1, seed=7))

    def test_every_group_meets_every_other_and_shares_multiply(self):
        both = crossed((WOMAN, MAN), self.races)
        assert {one.name: one.share for one in both} == {
            "woman + asian": 3,
            "woman + black": 1,
            "man + asian": 3,
            "man + black": 1,
        }

    def test_each_axis_has_a_scale_of_its_own(self):
        (both,) = crossed((WOMAN,), self.races[:1], 1.1, 0.5)
        assert [(term.concept.name, term.ram_strength, term.sam_strength) for term in both.terms] == [
            ("woman", 1.1, 1.1),
            ("asian", 0.5, 0.5),
        ]

    def test_three_axes(self):
        names = {one.name for one in crossed(crossed((WOMAN, MAN), self.races), (group("old"),))}
        assert "man + black + old" in names
        assert len(names) == 4

    def test_an_axis_that_the_prompt_settles_leaves_the_other(self):
        both = crossed((FairGroup.unsteered(2),), self.races)
        assert [one.name for one in both] == ["asian", "black"]
        assert crossed((FairGroup.unsteered(),), (FairGroup.unsteered(),))[0].name == NONE


def test_crossing_uses_the_scales_that_a_file_recommends_for_that_axis():
    """0.5 beside race, 3 beside age; times the node's own scale."""
    info = replace(WOMAN.terms[0].concept.info, axis="gender", scales={"race": 0.5, "age": 3.0})
    woman = FairGroup("woman", (Term.of(replace(WOMAN.terms[0].concept, info=info), 1.0),))
    black = FairGroup("black", (Term.of(concept_of("black", axis="race"), 1.0),))
    unknown = FairGroup("tall", (Term.of(concept_of("tall", axis="height"), 1.0),))

    (crossed_one,) = crossed([woman], [black], first_scale=2.0)
    assert [term.ram_strength for term in crossed_one.terms] == [1.0, 1.0]
    (crossed_one,) = crossed([black], [woman], second_scale=2.0)
    assert [term.ram_strength for term in crossed_one.terms] == [1.0, 1.0]
    (crossed_one,) = crossed([woman], [unknown])
    assert [term.ram_strength for term in crossed_one.terms] == [1.0, 1.0]
    (crossed_one,) = crossed([woman], [FairGroup.unsteered()])
    assert [term.ram_strength for term in crossed_one.terms] == [1.0]


def test_strength_one_is_what_the_file_recommends():
    concept = concept_of("woman", strength=0.4)
    term = Term.of(concept, 0.5, ram=2.0)
    assert (term.ram_strength, term.sam_strength) == (0.4, 0.2)


def concept_of(name: str, **facts: Any) -> Concept:
    concept = random_concept(name)
    return replace(concept, info=replace(concept.info, category="fairness", **facts))
