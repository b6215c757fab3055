"""A plan: what is added to h, and that plans add up."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from adapters import SIZES, random_concept
from respodiff.respodiff_core.errors import StrengthError
from respodiff.respodiff_core.steering import Steering, Term, Window

h = torch.randn(3, SIZES["C"], 4, 4, generator=torch.Generator().manual_seed(7))


def delta(steering: Steering, h: torch.Tensor = h) -> torch.Tensor:
    return sum(group.delta(h) for group in steering.groups())


def by_hand(concept, ram, sam, h=h):
    return ram * concept.ram(h) + sam * concept.sam(h)


@pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
@pytest.mark.parametrize("strengths", [(1, 1), (0.5, 0.5), (-2, 1), (0, 1), (1, 0)])
def test_one_concept_adds_strength_times_ram_plus_sam(kind, strengths):
    concept = random_concept(kind=kind)
    torch.testing.assert_close(delta(Steering((Term(concept, *strengths),))), by_hand(concept, *strengths))


def test_chained_plans_add_up_in_either_order():
    a, b = random_concept("a", seed=1), random_concept("b", "mlp", seed=5)
    one, other = Steering((Term(a, 1, 1),)), Steering((Term(b, 0.3, 0.7),))
    expected = by_hand(a, 1, 1) + by_hand(b, 0.3, 0.7)
    torch.testing.assert_close(delta(one + other), expected)
    torch.testing.assert_close(delta(other + one), expected)


def test_many_concepts_are_one_add_made_once():
    terms = [Term(random_concept(str(i), seed=i), 0.5, 1) for i in range(8)]
    (group,) = Steering(tuple(terms)).groups()
    assert group.delta(h).shape == (SIZES["C"], 4, 4)
    assert group.delta(h) is group.delta(h)
    torch.testing.assert_close(group.delta(h), sum(by_hand(t.concept, 0.5, 1) for t in terms))


def test_windows_and_prompts_are_separate_adds():
    concept = random_concept()
    terms = (
        Term(concept, 1, 1),
        Term(concept, 1, 1, Window(0.3, 0.6)),
        Term(concept, 1, 1, Window(0.3, 0.6)),
        Term(concept, 1, 1, prompt="negative"),
    )
    assert len(Steering(terms).groups()) == 3


def test_strength_zero_adds_nothing_at_all():
    assert Steering((Term(random_concept(), 0.0, 0.0),)).groups() == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_sum_is_made_in_fp32_and_comes_in_hs_dtype(dtype):
    terms = tuple(Term(random_concept(str(i), seed=i), 1, 1) for i in range(3))
    result = delta(Steering(terms), h.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result, sum(by_hand(t.concept, 1, 1) for t in terms).to(dtype))


@pytest.mark.parametrize("strengths", [(-0.01, 1), (1, -1)])
def test_a_safety_concept_refuses_to_be_turned_around(strengths):
    with pytest.raises(StrengthError, match="already points away"):
        Term(random_concept("violence", category="safety"), *strengths)


@pytest.mark.parametrize("window", [(0.6, 0.3), (-0.1, 1), (0, 1.1), (float("nan"), 1)])
def test_impossible_windows_are_refused(window):
    with pytest.raises(StrengthError, match="start_percent"):
        Window(*window)


def test_a_plan_goes_with_its_last_user_without_waiting_for_the_garbage_collector():
    (group,) = Steering((Term(random_concept(), 1, 1),)).groups()
    group.delta(h)
    watched = weakref.ref(group)
    gc.disable()
    try:
        del group
        assert watched() is None
    finally:
        gc.enable()


def test_the_vector_comes_on_hs_device():
    steering = Steering((Term(random_concept(), 1, 1), Term(random_concept("b", "mlp"), 1, 1)))
    (group,) = steering.groups()
    assert group.delta(h.to("meta")).device.type == "meta"
    assert group.delta(h).device.type == "cpu"
