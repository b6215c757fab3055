"""Adapters at other strengths, and summed into one concept: the file's numbers do what the graph did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapters import SIZES, random_adapter, random_concept
from respodiff.respodiff_core.adapter.adapter import Adapter, read, write
from respodiff.respodiff_core.adapter.combine import as_one, scaled
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.errors import AdapterFileError, StrengthError

h = torch.randn(2, SIZES["C"], 4, 4, generator=torch.Generator().manual_seed(7))


def added(concept) -> torch.Tensor:
    return concept.ram(h) + concept.sam(h)


@pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
@pytest.mark.parametrize("strength", [0.5, -1.5, 0.0])
def test_strength_one_of_the_scaled_is_that_strength_of_the_first(kind, strength):
    adapter = random_adapter("woman", kind=kind)
    before = added(adapter.concept("woman"))
    after = added(scaled(adapter, strength).concept("woman"))
    torch.testing.assert_close(after, strength * before, rtol=1e-5, atol=1e-4)


def test_a_safety_concept_is_never_turned_around():
    adapter = Adapter("sd15", {"violence": random_concept("violence", category="safety")})
    with pytest.raises(StrengthError, match="would steer towards"):
        scaled(adapter, -1)


def test_a_strength_that_is_no_number_is_refused():
    with pytest.raises(StrengthError, match="is NaN or infinite"):
        scaled(random_adapter("woman"), float("nan"))


@pytest.mark.parametrize("kinds", [("constant", "constant"), ("constant", "channel"), ("channel", "channel")])
def test_concepts_summed_into_one_add_what_all_added(kinds, tmp_path):
    concepts = (random_concept(name, kind, seed) for name, kind, seed in zip("ab", kinds, (1, 5), strict=True))
    parts = [Adapter("sd15", {concept.name: concept}, "epsilon") for concept in concepts]
    one = read(write(as_one(parts, "both"), tmp_path / "both.safetensors"))
    torch.testing.assert_close(added(one.concept("both")), added(parts[0].concept("a")) + added(parts[1].concept("b")))
    assert (one.family, one.prediction) == ("sd15", "epsilon")


def test_a_sum_has_the_recommended_strengths_in_it():
    concept = random_concept("a")
    half = ModuleConcept(replace(concept.info, strength=0.5), concept.ram, concept.sam)
    other = random_concept("b", seed=5)
    one = as_one([Adapter("sd15", {"a": half}), Adapter("sd15", {"b": other})], "both").concept("both")
    torch.testing.assert_close(added(one), 0.5 * added(concept) + added(other))
    assert one.info.strength == 1.0


def test_constants_of_other_sizes_are_resampled_to_the_largest():
    small, large = (
        Transform.of({"": torch.randn(SIZES["C"], size, size, generator=torch.Generator().manual_seed(size))})
        for size in (4, 8)
    )
    parts = [Adapter("sd15", {n: ModuleConcept(ConceptInfo(n), m, m)}) for n, m in (("a", small), ("b", large))]
    assert as_one(parts, "both").concept("both").ram.native_size == (8, 8)


def test_a_sum_with_a_safety_concept_refuses_negative_strengths_too():
    parts = [random_adapter("woman"), Adapter("sd15", {"v": random_concept("v", category="safety")}, "epsilon")]
    assert as_one(parts, "both").concept("both").info.category == "safety"


def test_modules_that_look_at_h_cannot_be_summed():
    with pytest.raises(AdapterFileError, match=r"'woman' of adapter cannot be summed.*Keep the concepts separate"):
        as_one([random_adapter("woman", kind="mlp")], "one")


def test_other_families_cannot_be_summed():
    with pytest.raises(AdapterFileError, match="families differ"):
        as_one([random_adapter("a"), random_adapter("b", family="sdxl")], "one")


def test_what_was_combined_can_be_combined_again_and_says_what_it_is_made_of(tmp_path):
    facts = {"steps": 3, "rates": [1, 2], "deep": {"a": [[1]]}}
    parts = [Adapter("sd15", {n: random_concept(n, training=facts)}, "epsilon") for n in "abcd"]
    sum_ = parts[0]
    for other in parts[1:]:
        sum_ = read(write(as_one([sum_, other], "sum"), tmp_path / "sum.safetensors"))
    origins = sum_.concept("sum").info.training["combined_from"]
    assert [one["concept"] for one in origins] == ["a", "b", "c", "d"]
    assert all(one["rates"] == [1, 2] for one in origins)
