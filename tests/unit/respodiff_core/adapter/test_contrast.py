"""Contrast concepts in the adapter file: what is written is read, and what means nothing is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from adapters import random_adapter, random_contrast, rewrite_metadata
from respodiff.respodiff_core.adapter.adapter import Adapter, merge, peek, read, to_bytes, write
from respodiff.respodiff_core.adapter.combine import as_one, scaled
from respodiff.respodiff_core.adapter.compatibility import check_fits
from respodiff.respodiff_core.adapter.concept import ConceptInfo
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.adapter.summary import summarise
from respodiff.respodiff_core.errors import AdapterFileError, ModelMismatchError, StrengthError
from safetensors.torch import save_file

SD15 = {
    **{f"input.{block}.0": 320 * 2 ** (block // 3) for block in (1, 2, 4, 5, 7, 8)},
    "middle.0.0": 1280,
    **{f"output.{block}.0": 1280 if block < 6 else 640 if block < 9 else 320 for block in range(3, 12)},
}  # fmt: skip
SDXL = {
    **{f"input.{block}.{depth}": 640 for block in (4, 5) for depth in range(2)},
    **{f"input.{block}.{depth}": 1280 for block in (7, 8) for depth in range(10)},
    **{f"middle.0.{depth}": 1280 for depth in range(10)},
    **{f"output.{block}.{depth}": 1280 for block in range(3) for depth in range(10)},
    **{f"output.{block}.{depth}": 640 for block in range(3, 6) for depth in range(2)},
}


def adapter_of(*concepts: ContrastConcept) -> Adapter:
    return Adapter("sd15", {one.name: one for one in concepts}, prediction="epsilon")


@pytest.mark.parametrize("operation", ["add", "move"])
@pytest.mark.parametrize("parts", [1, 3])
def test_what_is_written_is_read(tmp_path, operation, parts):
    woman = random_contrast("woman", operation, parts=parts, places=2, category="fairness", axis="gender")
    path = write(adapter_of(woman, random_contrast("man", operation, seed=1)), tmp_path / "a.safetensors")
    found = read(path).concepts["woman"]
    assert isinstance(found, ContrastConcept)
    assert (found.operation, found.info, found.sites) == (operation, woman.info, woman.sites)
    assert found.sigmas == pytest.approx(woman.sigmas)
    assert found.tensors().keys() == woman.tensors().keys()
    assert all(torch.equal(found.tensors()[name], tensor) for name, tensor in woman.tensors().items())
    header = peek(path).concepts["woman"]
    assert (header.kind, header.operation, header.sites) == ("contrast", operation, woman.sites)
    assert to_bytes(read(path)) == path.read_bytes()


def test_both_kinds_of_concepts_are_in_one_file(tmp_path):
    both = merge([adapter_of(random_contrast("old")), random_adapter("woman")])
    found = read(write(both, tmp_path / "both.safetensors"))
    assert [concept.site for concept in found.concepts.values()] == ["cross-attention", "middle"]
    text = summarise(found)
    assert "old (other, contrast, moves 3 cross-attention layers)" in text
    assert "woman (fairness, constant, 6 channels)" in text


@pytest.mark.parametrize(("family", "sites", "megabytes"), [("sd15", SD15, 0.6), ("sdxl", SDXL, 4.0)])
def test_a_groups_file_is_small(family, sites, megabytes):
    assert len(sites) == {"sd15": 16, "sdxl": 70}[family]
    held = to_bytes(replace(adapter_of(random_contrast(sites=sites)), family=family))
    assert len(held) < megabytes * 1e6


def test_half_precision_is_read_as_fp32(tmp_path):
    path = tmp_path / "half.safetensors"
    write(adapter_of(random_contrast()), path, torch.float16)
    assert {tensor.dtype for tensor in read(path).concepts["woman"].tensors().values()} == {torch.float32}


class TestScaling:
    def test_strength_one_then_acts_as_that_strength_did(self):
        """What `move` clears does not grow with the strength, so the tensors stay as they are."""
        concept = random_contrast("woman", strength=2.0)
        one = scaled(adapter_of(concept), 0.5).concepts["woman"]
        assert one.info.strength == 1.0
        assert all(torch.equal(one.tensors()[name], tensor) for name, tensor in concept.tensors().items())

    def test_a_safety_concept_cannot_be_turned_around(self):
        with pytest.raises(StrengthError, match="safety concept"):
            scaled(adapter_of(random_contrast("violence", "add", category="safety")), -1.0)

    def test_it_cannot_be_summed_into_one(self):
        with pytest.raises(AdapterFileError, match="contrast concept, and only RAM and SAM"):
            as_one([adapter_of(random_contrast())], "one")


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"site": "self-attention"}, "has the site 'self-attention', which this version does not know"),
            ({"operation": "rotate"}, "has the operation 'rotate', which this version does not know"),
            ({"operation": "add"}, "has clear, set at input.1.0, but 'add' needs set"),
            ({"site": "middle"}, "is described as acting at middle, but has tensors of"),
            ({"sigmas": [1.0]}, "for P = 2 parts of the schedule"),
            ({"sigmas": [1.0, 2.0]}, "expected at most 15 falling noise levels"),
            ({"sigmas": [float(n) for n in range(40, 0, -1)]}, "expected at most 15 falling noise levels"),
            ({"sigmas": "late"}, "expected at most 15 falling noise levels"),
            ({"sigmas": [True]}, "expected at most 15 falling noise levels"),
        ],
    )
    def test_what_a_file_says_of_a_concept_must_fit_its_tensors(self, tmp_path, change, said):
        path = write(adapter_of(random_contrast()), tmp_path / "a.safetensors")
        entries = json.dumps([{"name": "woman", "site": "cross-attention", "operation": "move"} | change])
        rewrite_metadata(path, **{"respodiff.concepts": entries})
        for reader in (peek, read):
            with pytest.raises(AdapterFileError, match=said):
                reader(path)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"woman.input.1.0.set.level": None}, "has only direction, reading at input.1.0.set"),
            ({"woman.input.1.0.clear.direction": None}, "has only level, reading at input.1.0.clear"),
            ({"woman.input.1.0.set.direction": torch.zeros(1, 1, 7, 1, 1)}, "tensors of 6, 7 channels at input.1.0"),
            ({"woman.input.1.0.set.level": torch.zeros(2)}, "has a level of shape"),
            ({"woman.input.1.0.set.direction": torch.zeros(1, 1, 6, 65, 1)}, "at most 64 x 64 places"),
            ({"woman.input.1.0.set.direction": torch.zeros(1, 17, 6, 1, 1)}, "rank R of the direction \\(at most 16"),
            ({"woman.input.1.0.set.direction": torch.zeros(1, 2, 6, 1, 1)}, "has a level of shape"),
            ({"woman.input.1.0.set.direction": torch.zeros(1, 1, 6, 0, 1)}, "has a direction of shape"),
            ({"woman.inner.1.0.set.level": torch.zeros(1)}, "does not belong in a RespoDiff adapter"),
            ({"woman.input.1.0.turn.level": torch.zeros(1)}, "does not belong in a RespoDiff adapter"),
            ({"woman.ram": torch.zeros(6, 1, 1)}, "has the tensor 'ram', which no contrast concept has"),
            ({"woman.input.1.0.set.level": torch.full((1, 1), float("nan"))}, "contains NaN or infinite"),
        ],
    )
    def test_tensors_that_do_not_fit_together(self, tmp_path, changes, said):
        path = tmp_path / "a.safetensors"
        concept = random_contrast()
        tensors = {f"woman.{name}": tensor for name, tensor in concept.tensors().items()} | changes
        about = {"name": "woman", "site": "cross-attention", "operation": "move"}
        metadata = {"respodiff.format": "1", "respodiff.concepts": json.dumps([about])}
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, str(path), metadata)
        with pytest.raises(AdapterFileError, match=said):
            read(path)

    def test_what_has_modules_is_not_described_as_moving(self, tmp_path):
        path = write(random_adapter("woman"), tmp_path / "a.safetensors")
        about = {"name": "woman", "site": "cross-attention", "operation": "move"}
        rewrite_metadata(path, **{"respodiff.concepts": json.dumps([about])})
        with pytest.raises(AdapterFileError, match="added at the middle block, but is described as move"):
            peek(path)

    def test_another_kind_of_model_is_named(self):
        def check(**sites: int) -> None:
            check_fits(
                adapter_of(random_contrast(sites={"input.1.0": 6})),
                family="sd15",
                sites={name.replace("_", "."): width for name, width in sites.items()},
                prediction=None,
                model="this model",
            )

        check(input_1_0=6, middle=9)
        with pytest.raises(ModelMismatchError, match=r"layer input\.1\.0, which this model does not have"):
            check(middle=9)
        with pytest.raises(
            ModelMismatchError, match=r"6 channels at the cross-attention layer input\.1\.0, this model has 8"
        ):
            check(input_1_0=8)

    def test_a_concept_without_layers(self):
        with pytest.raises(AdapterFileError, match="acts at 0 layers"):
            ContrastConcept.of(ConceptInfo("woman"), {}, "move")
