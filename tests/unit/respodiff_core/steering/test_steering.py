"""A plan: what is added to h, and that plans add up."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from adapters import SIZES, random_concept
from respodiff.respodiff_core.errors import BatchSizeError, StrengthError
from respodiff.respodiff_core.steering.fair_groups import FairGroup, steer_rows
from respodiff.respodiff_core.steering.mask import Area, Mask
from respodiff.respodiff_core.steering.steering import Steering, Term, Window, per_image

h = torch.randn(3, SIZES["C"], 4, 4, generator=torch.Generator().manual_seed(7))


def delta(steering: Steering, h: torch.Tensor = h) -> torch.Tensor:
    return sum(group.delta(h) for group in steering.groups())


def by_hand(concept, ram, sam, h=h):
    return ram * concept.ram(h) + sam * concept.sam(h)


@pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
@pytest.mark.parametrize("strengths", [(1, 1), (0.5, 0.5), (-2, 1), (0, 1), (1, 0)])
def test_one_concept_adds_strength_times_ram_plus_sam(kind, strengths):
    concept = random_concept(kind=kind)
    torch.testing.assert_close(delta(Steering((Term(concept, 1, *strengths),))), by_hand(concept, *strengths))


def test_chained_plans_add_up_in_either_order():
    a, b = random_concept("a", seed=1), random_concept("b", "mlp", seed=5)
    one, other = Steering((Term(a, 1, 1, 1),)), Steering((Term(b, 1, 0.3, 0.7),))
    expected = by_hand(a, 1, 1) + by_hand(b, 0.3, 0.7)
    torch.testing.assert_close(delta(one + other), expected)
    torch.testing.assert_close(delta(other + one), expected)


def test_many_concepts_are_one_add_made_once():
    terms = [Term(random_concept(str(i), seed=i), 1, 0.5, 1) for i in range(8)]
    (group,) = Steering(tuple(terms)).groups()
    assert group.delta(h).shape == (SIZES["C"], 4, 4)
    assert group.delta(h) is group.delta(h)
    torch.testing.assert_close(group.delta(h), sum(by_hand(t.concept, 0.5, 1) for t in terms))


def test_windows_and_prompts_are_separate_adds():
    concept = random_concept()
    terms = (
        Term(concept, 1, 1, 1),
        Term(concept, 1, 1, 1, Window(0.3, 0.6)),
        Term(concept, 1, 1, 1, Window(0.3, 0.6)),
        Term(concept, 1, 1, 1, prompt="negative"),
    )
    assert len(Steering(terms).groups()) == 3


def test_strength_zero_adds_nothing_at_all():
    assert Steering((Term(random_concept(), 1, 0.0, 0.0),)).groups() == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_sum_is_made_in_fp32_and_comes_in_hs_dtype(dtype):
    terms = tuple(Term(random_concept(str(i), seed=i), 1, 1, 1) for i in range(3))
    result = delta(Steering(terms), h.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result, sum(by_hand(t.concept, 1, 1) for t in terms).to(dtype))


@pytest.mark.parametrize("strengths", [(-0.01, 1), (1, -1)])
def test_a_safety_concept_refuses_to_be_turned_around(strengths):
    with pytest.raises(StrengthError, match="already points away"):
        Term(random_concept("violence", category="safety"), 1, *strengths)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_strengths_that_are_no_numbers_are_refused(bad):
    for strengths in ({"strength": bad}, {"strength": 1.0, "ram": bad}, {"strength": 1.0, "images": (1.0, bad)}):
        with pytest.raises(StrengthError, match="is NaN or infinite"):
            Term.of(random_concept(), **strengths)


@pytest.mark.parametrize("window", [(0.6, 0.3), (-0.1, 1), (0, 1.1), (float("nan"), 1)])
def test_impossible_windows_are_refused(window):
    with pytest.raises(StrengthError, match="start_percent"):
        Window(*window)


def test_a_plan_goes_with_its_last_user_without_waiting_for_the_garbage_collector():
    (group,) = Steering((Term(random_concept(), 1, 1, 1),)).groups()
    group.delta(h)
    watched = weakref.ref(group)
    gc.disable()
    try:
        del group
        assert watched() is None
    finally:
        gc.enable()


def test_the_vector_comes_on_hs_device():
    steering = Steering((Term(random_concept(), 1, 1, 1), Term(random_concept("b", "mlp"), 1, 1, 1)))
    (group,) = steering.groups()
    assert group.delta(h.to("meta")).device.type == "meta"
    assert group.delta(h).device.type == "cpu"


class TestImagesOfABatch:
    """`images` holds a factor for each image: one tensor with a row each, or the module on those rows alone."""

    @pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
    def test_each_image_gets_its_own_strength(self, kind):
        concept = random_concept(kind=kind)
        result = delta(Steering((Term(concept, 1, 1, 0.5, images=(1.0, 0.0, -0.25)),)))
        expected = by_hand(concept, 1, 0.5).expand_as(h) * torch.tensor([1.0, 0.0, -0.25])[:, None, None, None]
        torch.testing.assert_close(result.expand_as(h), expected)
        assert not result[1].any()

    def test_it_adds_up_with_what_all_images_get(self):
        a, b, c = random_concept("a", seed=1), random_concept("b", "conv", seed=5), random_concept("c", "mlp", seed=8)
        plan = Steering((Term(a, 1, 1, 1), Term(b, 1, 1, 1, images=(0.0, 1.0, 0.0)), Term(c, 1, 1, 1)))
        expected = by_hand(a, 1, 1) + by_hand(c, 1, 1)
        expected[1] += by_hand(b, 1, 1)[1]
        torch.testing.assert_close(delta(plan), expected, rtol=1e-4, atol=1e-4)

    def test_it_is_made_once(self):
        concepts = [random_concept(str(i), seed=i) for i in range(3)]
        terms = [Term(one, 1, 1, 1, images=tuple(float(i == j) for j in range(3))) for i, one in enumerate(concepts)]
        (group,) = Steering(tuple(terms)).groups()
        assert group.delta(h) is group.delta(h)

    def test_another_batch_size_is_refused(self):
        (group,) = Steering((Term(random_concept(), 1, 1, 1, images=(1.0, 1.0)),)).groups()
        with pytest.raises(BatchSizeError, match="made for a batch of 2 images, but 3 are sampled"):
            group.delta(h)

    def test_plans_for_different_batch_sizes_are_refused(self):
        one, other = (Steering((Term(random_concept(), 1, 1, 1, images=images),)) for images in ((1.0,), (1.0, 1.0)))
        with pytest.raises(BatchSizeError, match="different batch sizes at the same time: 1 and 2 images"):
            one + other

    def test_a_safety_concept_is_turned_around_in_no_image(self):
        with pytest.raises(StrengthError, match="already points away"):
            Term(random_concept("violence", category="safety"), 1, 1, 1, images=(1.0, -0.5))

    def test_all_zero_adds_nothing_at_all(self):
        assert Steering((Term(random_concept(), 1, 1, 1, images=(0.0, 0.0)),)).groups() == ()


class TestMask:
    half = torch.zeros(32, 32)
    half[:, 16:] = 1

    @pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
    def test_outside_a_hard_mask_the_change_of_h_is_zero(self, kind):
        concept = random_concept(kind=kind)
        result = delta(Steering((Term(concept, 1, 1, 1, mask=Mask.of(self.half)),))).expand_as(h)
        assert not result[..., :2].any()
        torch.testing.assert_close(result[..., 2:], by_hand(concept, 1, 1).expand_as(h)[..., 2:])

    def test_a_soft_mask_scales(self):
        concept = random_concept()
        result = delta(Steering((Term(concept, 1, 1, 1, mask=Mask.of(0.25 * torch.ones(8, 8))),)))
        torch.testing.assert_close(result[0], 0.25 * by_hand(concept, 1, 1))

    def test_a_place_covered_in_part_gets_that_part(self):
        values = torch.zeros(8, 8)
        values[:, :3] = 1  # of 8 columns over 4 places: one and a half
        assert Mask.of(values).on(4, 4)[0, 0, 0].tolist() == [1, 0.5, 0, 0]

    @pytest.mark.parametrize("size", [(3, 5), (7, 9), (64, 64)])
    def test_any_size_fits(self, size):
        assert Mask.of(self.half).on(*size).shape == (1, 1, *size)

    def test_one_mask_for_each_image(self):
        masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), 0.5 * torch.ones(8, 8)])
        concept = random_concept()
        result = delta(Steering((Term(concept, 1, 1, 1, mask=Mask.of(masks)),)))
        for image, factor in enumerate((0, 1, 0.5)):
            torch.testing.assert_close(result[image], factor * by_hand(concept, 1, 1))

    def test_masks_and_factors_of_each_image_multiply(self):
        masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), 0.5 * torch.ones(8, 8)])
        for kind in ("constant", "mlp"):
            concept = random_concept(kind=kind)
            result = delta(Steering((Term(concept, 1, 1, 1, mask=Mask.of(masks), images=(1.0, 0.0, -2.0)),)))
            expected = by_hand(concept, 1, 1).expand_as(h) * torch.tensor([0.0, 0.0, -1.0])[:, None, None, None]
            torch.testing.assert_close(result.expand_as(h), expected)

    def test_an_area_sees_its_own_part_of_the_mask(self):
        mask = Mask.of(self.half)
        assert not mask.on(4, 4, Area(0.0, 0.0, 1.0, 0.5)).any()
        assert mask.on(4, 4, Area(0.5, 0.5, 0.5, 0.5)).eq(1).all()

    def test_nothing_but_a_mask_is_taken(self):
        with pytest.raises(StrengthError, match=r"\(masks, height, width\)"):
            Mask.of(torch.zeros(1, 2, 3, 4))

    def test_holes_in_it_are_refused(self):
        with pytest.raises(StrengthError, match="mask contains NaN"):
            Mask.of(torch.tensor([[1.0, float("nan")]]))

    def test_masks_for_another_batch_are_refused(self):
        (group,) = Steering((Term(random_concept(), 1, 1, 1, mask=Mask.of(torch.ones(2, 8, 8))),)).groups()
        with pytest.raises(BatchSizeError, match="batch of masks"):
            group.delta(h)


def test_areas_share_one_tensor_where_there_is_no_mask():
    (group,) = Steering((Term(random_concept(), 1, 1, 1),)).groups()
    assert group.delta(h, Area(0.0, 0.0, 0.5, 0.5)) is group.delta(h)


@pytest.mark.parametrize(("images", "expected"), [(1, [1]), (2, [1, 0]), (3, [1, 0, 1]), (4, [1, 0, 1, 0])])
def test_values_of_prompts_repeat_over_their_images_as_rows_do(images, expected):
    values = per_image(torch.tensor([1, 0]), torch.zeros(images, 3, 2, 2))
    assert values.shape == (images, 1, 1, 1)
    assert values.flatten().tolist() == expected


class TestGuidance:
    """Strengths that depend on the guidance scale."""

    over = random_concept(strength=2.0, guidance=((2.0, 3.0), (8.0, 1.0)))

    @pytest.mark.parametrize(
        ("scale", "factor"), [(1.0, 3.0), (2.0, 3.0), (4.0, 3**0.5), (8.0, 1.0), (20.0, 1.0), (0.0, 3.0)]
    )
    def test_a_term_takes_the_factor_of_its_file(self, scale, factor):
        assert Term.of(self.over, 0.5).at_guidance(scale).strength == pytest.approx(factor)

    def test_a_plan_of_other_files_stays_as_it_is(self):
        steering = Steering((Term.of(random_concept(), 0.5),))
        assert steering.at_guidance(2.0).terms == steering.terms
        assert Steering((Term.of(self.over, 1.0),)).at_guidance(None).terms[0].strength == 2.0

    def test_the_negative_prompt_is_not_guided(self):
        assert Term.of(self.over, 1.0, prompt="negative").at_guidance(2.0).strength == 2.0

    def test_no_factor_is_no_steering(self):
        concept = random_concept(guidance=((1.0, 0.0), (8.0, 1.0)))
        assert Steering((Term.of(concept, 1.0),)).at_guidance(1.0).groups() == ()
        assert Term.of(concept, 1.0).at_guidance(4.0).strength == pytest.approx(0)

    def test_rows_of_a_batch_have_their_own_scales(self):
        group = FairGroup("over", (Term.of(self.over, 0.5),))
        steering = steer_rows([group] * 3, guidance=[2.0, 8.0, 2.0])
        moved = steering.middle(h, torch.ones(3)) - h
        one = by_hand(self.over, 1, 1)
        torch.testing.assert_close(moved, torch.stack([3 * one, one, 3 * one]).expand_as(moved), rtol=1e-4, atol=1e-4)
