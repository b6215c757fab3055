"""Plans at cross-attention layers: what contrast concepts add to the outputs of a layer."""

from __future__ import annotations

import pytest
import torch
from adapters import random_concept, random_contrast
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.errors import BatchSizeError, StrengthError
from respodiff.respodiff_core.steering.fair_groups import FairGroup, steer_rows
from respodiff.respodiff_core.steering.mask import WHOLE, Area, Mask
from respodiff.respodiff_core.steering.steering import Steering, Term, Window

SITE, SIZE, CHANNELS = "input.1.0", (4, 6), 6
x = torch.randn(3, SIZE[0] * SIZE[1], CHANNELS, generator=torch.Generator().manual_seed(9))


def delta(*terms: Term, at: torch.Tensor = x, size: tuple[int, int] = SIZE, **where: object) -> torch.Tensor:
    (group,) = Steering(terms).groups()
    return group.layer_delta(SITE, at, size, **where).expand_as(at)


def by_hand(concept: ContrastConcept, strength: float, part: int = 0) -> torch.Tensor:
    """As adapter.contrast has it, token by token, for vectors without places."""
    total = torch.zeros_like(x)
    for name, one in concept.layers[SITE].items():
        weight = strength if name == "set" else min(abs(strength), 1.0)
        for rank, direction in enumerate(one.direction[part, :, :, 0, 0]):
            share = one.level[part, rank] + (0.0 if one.reading is None else x @ one.reading[part, rank, :, 0, 0])
            total += weight * torch.as_tensor(share).expand(x.shape[:2])[..., None] * direction
    return total


@pytest.mark.parametrize("operation", ["add", "move"])
@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0, -1.5])
def test_a_layer_is_moved_by_the_strength(operation, reading, strength):
    concept = random_contrast("woman", operation, reading=reading)
    torch.testing.assert_close(delta(Term(concept, strength)), by_hand(concept, strength))


def test_strength_zero_touches_nothing_at_all():
    assert Steering((Term(random_contrast(), 0.0),)).groups() == ()


def test_any_number_of_concepts_is_one_addition_in_any_order():
    terms = [Term(random_contrast(str(n), ("add", "move")[n % 2], seed=n), 0.3 * n + 0.1) for n in range(5)]
    expected = sum(by_hand(term.concept, term.strength) for term in terms)
    torch.testing.assert_close(delta(*terms), expected)
    torch.testing.assert_close(delta(*reversed(terms)), expected)


def test_a_plan_mixes_both_kinds_of_concepts():
    module, contrast = random_concept("old"), random_contrast("woman")
    (group,) = Steering((Term(module, 1.0), Term(contrast, 1.0))).groups()
    assert group.sites == {"middle", *contrast.sites}
    h = torch.randn(3, 6, 4, 4)
    torch.testing.assert_close(group.delta(h).expand_as(h), (module.ram(h) + module.sam(h)).expand_as(h))
    torch.testing.assert_close(group.layer_delta(SITE, x, SIZE), by_hand(contrast, 1.0))


def test_at_the_middle_it_moves_h_beside_modules():
    concept = random_contrast("woman", sites={"middle": 6})
    module = random_concept("old")
    (group,) = Steering((Term(module, 1.0), Term(concept, 1.0))).groups()
    h = torch.randn(2, 6, 4, 4)
    moved = torch.zeros_like(h)
    for one in concept.layers["middle"].values():
        for rank, direction in enumerate(one.direction[0]):
            share = one.level[0, rank] + torch.einsum("nchw,c->nhw", h, one.reading[0, rank, :, 0, 0])
            moved += share[:, None] * direction
    torch.testing.assert_close(group.delta(h), moved + module.ram(h) + module.sam(h))


class TestParts:
    sigmas = (10.0, 5.0)

    @pytest.mark.parametrize(("sigma", "part"), [(14.0, 0), (10.0, 0), (9.9, 1), (5.0, 1), (4.9, 2), (0.0, 2)])
    def test_the_noise_level_chooses_the_part(self, sigma, part):
        concept = random_contrast("woman", parts=3)
        assert concept.sigmas == self.sigmas
        found = delta(Term(concept, 1.0), sigmas=torch.full((3,), sigma))
        torch.testing.assert_close(found, by_hand(concept, 1.0, part))

    def test_concepts_of_other_parts_go_together(self):
        one, other = random_contrast("a", parts=3), random_contrast("b", parts=2, seed=1)
        found = delta(Term(one, 1.0), Term(other, 1.0), sigmas=torch.full((3,), 7.0))
        torch.testing.assert_close(found, by_hand(one, 1.0, 1) + by_hand(other, 1.0, 1))


class TestPlaces:
    def test_a_grid_is_resampled_to_the_layer(self):
        concept = random_contrast("woman", "add", places=2, reading=False)
        one = concept.layers[SITE]["set"]
        found = delta(Term(concept, 1.0))
        grid = found.reshape(3, *SIZE, CHANNELS)[0].permute(2, 0, 1)
        assert torch.allclose(grid[:, 0, 0], one.level[0] * one.direction[0, 0, :, 0, 0], atol=1e-6)
        assert torch.allclose(grid[:, -1, -1], one.level[0] * one.direction[0, 0, :, 1, 1], atol=1e-6)
        assert grid.std(dim=(1, 2)).min() > 0.01

    def test_a_reading_over_places_is_one_number_an_image_at_every_size(self):
        concept = random_contrast("woman", "add", places=2)
        tensors = dict(concept.tensors())
        tensors[f"{SITE}.set.reading"] = torch.ones(1, 1, CHANNELS, 2, 2)
        concept = ContrastConcept.of(concept.info, tensors, "add")
        one = concept.layers[SITE]["set"]
        for size in ((4, 6), (8, 12)):
            ones = torch.ones(1, size[0] * size[1], CHANNELS)
            found = delta(Term(concept, 1.0), at=ones, size=size)
            share = one.level[0] + 4 * CHANNELS  # the sum over the grid's four places
            torch.testing.assert_close(found[0, 0], share * one.direction[0, 0, :, 0, 0])

    def test_a_mask_is_the_region_where_it_acts(self):
        mask = torch.zeros(1, 8, 12)
        mask[..., 6:] = 1.0
        concept = random_contrast()
        found = delta(Term(concept, 1.0, mask=Mask.of(mask))).reshape(3, *SIZE, CHANNELS)
        whole = by_hand(concept, 1.0).reshape(3, *SIZE, CHANNELS)
        torch.testing.assert_close(found[:, :, 3:], whole[:, :, 3:])
        assert not found[:, :, :3].any()
        right = delta(Term(concept, 1.0, mask=Mask.of(mask)), area=Area(0.0, 0.5, 1.0, 0.5))
        torch.testing.assert_close(right, by_hand(concept, 1.0))
        torch.testing.assert_close(delta(Term(concept, 1.0), area=WHOLE), by_hand(concept, 1.0))


class TestImagesOfABatch:
    def test_each_image_has_its_own_strength(self):
        concept = random_contrast()
        found = delta(Term(concept, 1.0, images=(1.0, 0.0, -2.0)))
        for row, strength in enumerate((1.0, 0.0, -2.0)):
            torch.testing.assert_close(found[row], by_hand(concept, strength)[row])

    def test_each_image_has_its_own_group(self):
        concepts = [random_contrast(name, seed=n) for n, name in enumerate(("round", "square"))]
        groups = [FairGroup(one.name, (Term(one, 1.0),)) for one in concepts]
        steering = steer_rows([groups[0], groups[1], groups[1]])
        found = steering.layer(SITE, x, SIZE, torch.full((3,), 5.0)) - x
        for row, one in enumerate((concepts[0], concepts[1], concepts[1])):
            torch.testing.assert_close(found[row], by_hand(one, 1.0)[row])

    def test_another_batch_is_refused(self):
        with pytest.raises(BatchSizeError, match="batch of 2 images, but 3"):
            delta(Term(random_contrast(), 1.0, images=(1.0, 1.0)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_result_has_the_layers_dtype(dtype):
    concept = random_contrast()
    found = delta(Term(concept, 1.0), at=x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), by_hand(concept, 1.0), rtol=0.05, atol=0.2)


def test_windows_are_groups_of_their_own():
    terms = (Term(random_contrast(), 1.0), Term(random_contrast("man"), 1.0, window=Window(0.2, 0.8)))
    assert len(Steering(terms).groups()) == 2


def test_a_safety_concept_refuses_to_be_turned_around():
    with pytest.raises(StrengthError, match="already points away"):
        Term(random_contrast("violence", "add", category="safety"), -0.5)


def test_factors_of_ram_and_sam_are_refused_where_there_are_none():
    with pytest.raises(StrengthError, match="is a contrast concept and has no RAM and SAM"):
        Term(random_contrast(), 1.0, sam=0.5)
