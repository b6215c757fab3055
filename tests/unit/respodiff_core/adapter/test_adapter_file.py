"""The adapter file: what is written is what is read, and everything else is refused in a sentence."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest
import torch
from adapters import random_adapter, rewrite_metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from respodiff.respodiff_core.adapter import adapter as adapter_file
from respodiff.respodiff_core.adapter.adapter import Adapter, merge, peek, read, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import PARAMETERS, Transform
from respodiff.respodiff_core.errors import AdapterFileError, UnknownConceptError
from respodiff.respodiff_core.names import check_name
from safetensors.torch import save_file

KINDS = tuple(PARAMETERS)


def header_of(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length))


class TestRoundTrip:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_comes_back_exactly(self, tmp_path, kind):
        adapter = random_adapter("woman", "man", kind=kind)
        loaded = read(write(adapter, tmp_path / "a.safetensors"))
        assert (loaded.family, loaded.prediction) == ("sd15", "epsilon")
        for name, concept in adapter.concepts.items():
            assert loaded.concepts[name].info == concept.info
            assert loaded.concepts[name].kind == kind
            for mine, theirs in (
                (concept.ram, loaded.concepts[name].ram),
                (concept.sam, loaded.concepts[name].sam),
            ):
                assert mine.tensors.keys() == theirs.tensors.keys()
                assert all(torch.equal(mine.tensors[p], theirs.tensors[p]) for p in mine.tensors)

    def test_a_concept_may_mix_kinds(self, tmp_path):
        ram = Transform.of({"": torch.ones(6, 4, 4)})
        sam = Transform.of({"": torch.ones(6, 1, 1)})
        adapter = Adapter("sd15", {"woman": ModuleConcept(ConceptInfo("woman"), ram, sam)})
        assert read(write(adapter, tmp_path / "a.safetensors")).concepts["woman"].kind == "constant+channel"

    def test_tensors_and_metadata_are_named_as_the_format_says(self, tmp_path):
        header = header_of(write(random_adapter("woman", "man"), tmp_path / "a.safetensors"))
        metadata = header.pop("__metadata__")
        assert set(header) == {"woman.ram", "woman.sam", "man.ram", "man.sam"}
        assert metadata["respodiff.format"] == "1"
        assert metadata["respodiff.family"] == "sd15"
        assert metadata["modelspec.architecture"] == "stable-diffusion-v1/respodiff"
        assert metadata["modelspec.author"] == "someone"
        (woman, _) = json.loads(metadata["respodiff.concepts"])
        assert woman["name"] == "woman"
        assert woman["kind"] == "constant"
        assert woman["target"] == "a woman"

    def test_mlp_parameters_follow_the_prefix(self, tmp_path):
        header = header_of(write(random_adapter(kind="mlp"), tmp_path / "a.safetensors"))
        assert {"woman.ram.fc1.weight", "woman.sam.fc2.bias"} <= set(header)

    def test_the_same_adapter_gives_the_same_bytes(self, tmp_path):
        first, second = (write(random_adapter("a", "b"), tmp_path / f"{i}.safetensors").read_bytes() for i in range(2))
        assert first == second

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_files_are_read_as_fp32(self, tmp_path, dtype):
        adapter = random_adapter()
        loaded = read(write(adapter, tmp_path / "a.safetensors", dtype)).concepts["woman"].ram.tensors[""]
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, adapter.concepts["woman"].ram.tensors[""].to(dtype).float())

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(name=st.text(min_size=1, max_size=64), target=st.text(max_size=40))
    def test_any_name_is_either_refused_or_survives(self, tmp_path, name, target):
        try:
            check_name(name)
        except AdapterFileError:
            return
        ram = Transform.of({"": torch.ones(2, 1, 1)})
        write(
            Adapter("sd15", {name: ModuleConcept(ConceptInfo(name, target=target), ram, ram)}),
            tmp_path / "a.safetensors",
        )
        assert read(tmp_path / "a.safetensors").concepts[name].info.target == target


class TestReading:
    def test_only_the_concepts_asked_for_are_read(self, tmp_path):
        path = write(random_adapter("a", "b", "c"), tmp_path / "a.safetensors")
        assert list(read(path, ["b"]).concepts) == ["b"]

    def test_reading_one_of_many_does_not_touch_the_others_bytes(self, tmp_path):
        path = write(random_adapter("a", "b"), tmp_path / "a.safetensors")
        offsets = header_of(path)["b.ram"]["data_offsets"]
        data = bytearray(path.read_bytes())
        start = 8 + struct.unpack("<Q", data[:8])[0] + offsets[0]
        data[start : start + 4] = struct.pack("<f", float("nan"))
        path.write_bytes(data)
        assert list(read(path, ["a"]).concepts) == ["a"]
        with pytest.raises(AdapterFileError, match="'b' contains NaN"):
            read(path)

    def test_an_unknown_concept_is_answered_with_those_there_are(self, tmp_path):
        path = write(random_adapter("woman", "man"), tmp_path / "a.safetensors")
        with pytest.raises(UnknownConceptError, match=r"no concept 'old'\. Its concepts are: woman, man"):
            read(path, ["old"])

    def test_a_loaded_adapter_does_not_change_with_its_file(self, tmp_path):
        path = write(random_adapter(), tmp_path / "a.safetensors")
        loaded = read(path).concepts["woman"].ram.tensors[""]
        before = loaded.clone()
        with open(path, "r+b") as file:
            file.seek(-64, os.SEEK_END)
            file.write(b"\xff" * 64)
        assert torch.equal(loaded, before)

    def test_peek_tells_concepts_kinds_and_width_without_tensor_data(self, tmp_path):
        path = write(random_adapter("woman", kind="conv"), tmp_path / "a.safetensors")
        header = peek(path)
        assert header.family == "sd15"
        assert (header.concepts["woman"].kind, header.concepts["woman"].sites) == ("conv", {"middle": 6})
        assert header.concepts["woman"].info.neutral == "a person"

    def test_without_metadata_shapes_are_used_and_it_is_said(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save_file({"woman.ram": torch.ones(6, 4, 4), "woman.sam": torch.ones(6, 4, 4)}, str(path))
        loaded = read(path)
        assert loaded.family is None
        assert loaded.concepts["woman"].kind == "constant"
        assert "no RespoDiff metadata" in loaded.notes[0]


class TestRefusals:
    @pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
    def test_pickles_are_never_opened(self, tmp_path, suffix):
        path = tmp_path / f"unet{suffix}"
        path.write_bytes(pickle.dumps({}))
        with pytest.raises(AdapterFileError, match=f"respodiff import unet{suffix}"):
            read(path)

    def test_a_missing_file_says_where_to_put_it(self, tmp_path):
        with pytest.raises(AdapterFileError, match="models/respodiff"):
            read(tmp_path / "none.safetensors")

    @pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"hello, I am text" * 9, b"\xff" * 64])
    def test_other_files_are_told_apart(self, tmp_path, content):
        path = tmp_path / "a.safetensors"
        path.write_bytes(content)
        with pytest.raises(AdapterFileError, match="not a whole safetensors file"):
            read(path)

    def test_truncation_is_noticed_by_peek_already(self, tmp_path):
        path = write(random_adapter(), tmp_path / "a.safetensors")
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(AdapterFileError, match="not a whole safetensors file"):
            peek(path)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_non_finite_values_are_neither_read_nor_written(self, tmp_path, bad):
        path = tmp_path / "a.safetensors"
        save_file({"w.ram": torch.full((2, 1, 1), bad), "w.sam": torch.ones(2, 1, 1)}, str(path))
        with pytest.raises(AdapterFileError, match="RAM of concept 'w' contains NaN or infinite"):
            read(path)
        module = Transform.of({"": torch.full((2, 1, 1), bad)})
        with pytest.raises(AdapterFileError, match="NaN or infinite"):
            write(Adapter("sd15", {"w": ModuleConcept(ConceptInfo("w"), module, module)}), tmp_path / "b.safetensors")
        assert not (tmp_path / "b.safetensors").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"respodiff.format": "2"}, "update ComfyUI-RespoDiff"),
            ({"respodiff.concepts": "{"}, "not JSON"),
            ({"respodiff.concepts": "[" * 100_000}, "not JSON"),
            ({"respodiff.concepts": "{}"}, "not a list"),
            ({"respodiff.concepts": None}, "not a list"),
            ({"respodiff.concepts": "[]"}, "contains no concepts"),
            ({"respodiff.concepts": '["woman"]'}, "must be a list of objects"),
            ({"respodiff.concepts": '[{"name": 3}]'}, "must have 1 to 64 characters"),
            ({"respodiff.concepts": '[{"name": "woman", "strength": NaN}]'}, "NaN is not allowed"),
            ({"respodiff.concepts": '[{"name": "woman", "strength": 1e999}]'}, "'1e999' is too large a number"),
            ({"respodiff.concepts": f'[{{"name": "woman", "strength": 1{"0" * 400}}}]'}, "which is not between"),
            ({"respodiff.concepts": '[{"name": "woman", "synonyms": [1]}]'}, "synonyms that are not text"),
            ({"respodiff.concepts": '[{"name": "woman", "scales": {"race": -1}}]'}, "scales that are not numbers"),
            ({"respodiff.concepts": '[{"name": "woman", "scales": {"race": NaN}}]'}, "NaN is not allowed"),
            ({"respodiff.concepts": '[{"name": "woman", "guidance": {"2": 3}}]'}, "the guidance .* has the wrong type"),
            ({"respodiff.concepts": '[{"name": "woman", "guidance": [[2, 3], [2, 1]]}]'}, "a rising guidance scale"),
            ({"respodiff.concepts": '[{"name": "woman", "guidance": [[0, 3]]}]'}, "a rising guidance scale"),
            ({"respodiff.concepts": '[{"name": "woman", "guidance": [[2, -1]]}]'}, "a factor from 0 to 100"),
            ({"respodiff.concepts": '[{"name": "woman", "guidance": [[2, true]]}]'}, "a rising guidance scale"),
            ({"respodiff.concepts": '[{"name": "woman", "guidance": [[1], [2, 3]]}]'}, "a rising guidance scale"),
            ({"respodiff.concepts": '[{"name": "../x"}]'}, "which is not allowed in names"),
            ({"respodiff.concepts": '[{"name": "woman"}, {"name": "woman"}]'}, "lists a concept twice"),
            ({"respodiff.concepts": '[{"name": "man"}]'}, "the file is damaged"),
            ({"respodiff.concepts": '[{"name": "woman", "category": "fun"}]'}, "category 'fun'"),
            ({"respodiff.concepts": '[{"name": "woman", "strength": "1"}]'}, "strength '1'"),
            ({"respodiff.concepts": '[{"name": "woman", "strength": true}]'}, "strength True"),
        ],
    )
    def test_metadata_is_checked(self, tmp_path, changes, message):
        path = write(random_adapter("woman"), tmp_path / "a.safetensors")
        rewrite_metadata(path, **changes)
        with pytest.raises(AdapterFileError, match=message):
            peek(path)

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            ({"lora_unet_down.weight": torch.ones(1)}, "Is it a LoRA"),
            ({"w.ram": torch.ones(2, 1, 1)}, "has no SAM"),
            ({"w.ram.": torch.ones(2, 1, 1), "w.sam": torch.ones(2, 1, 1)}, "does not belong in a RespoDiff adapter"),
            ({"w.ram": torch.ones(2), "w.sam": torch.ones(2)}, r"shapes \(2\); expected"),
            ({"w.ram": torch.ones(2, 0, 0), "w.sam": torch.ones(2, 1, 1)}, r"shapes \(2, 0, 0\)"),
            (
                {"w.ram": torch.ones(2, 1, 1), "w.sam": torch.ones(3, 1, 1)},
                "RAM of 2 channels and a SAM of 3",
            ),
            ({"w.ram.fc1.weight": torch.ones(2, 2), "w.sam": torch.ones(2, 1, 1)}, "match no kind of module"),
            ({"w.ram": torch.ones(2, 1, 1, dtype=torch.int32), "w.sam": torch.ones(2, 1, 1)}, "is I32"),
        ],
    )
    def test_tensors_are_checked(self, tmp_path, tensors, message):
        path = tmp_path / "a.safetensors"
        save_file(tensors, str(path))
        with pytest.raises(AdapterFileError, match=message):
            read(path)

    @pytest.mark.parametrize("name", ["", " a", "a ", "a.b", "a/b", "..", "a\n", "a" * 65, "e\u0301", "a\x00", 'a"b'])
    def test_names_that_would_hurt_are_refused(self, name):
        with pytest.raises(AdapterFileError):
            check_name(name)

    @pytest.mark.parametrize("name", ["a white-race person", "女性", "old & wise", "é"])
    def test_names_people_use_are_fine(self, name):
        assert check_name(name) == name


class TestWritingIsAtomic:
    def test_a_failed_write_leaves_the_old_file_and_no_litter(self, tmp_path, monkeypatch):
        path = write(random_adapter("old"), tmp_path / "a.safetensors")
        before = path.read_bytes()

        def full_disk(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(adapter_file.os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write(random_adapter("new"), path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a.safetensors"]

    def test_the_file_is_readable_as_others_are(self, tmp_path):
        ordinary = tmp_path / "ordinary"
        ordinary.touch()
        written = write(random_adapter(), tmp_path / "a.safetensors")
        assert written.stat().st_mode == ordinary.stat().st_mode


class TestMerge:
    def test_concepts_of_all_in_order(self):
        assert list(merge([random_adapter("b"), random_adapter("a", "c")]).concepts) == ["b", "a", "c"]

    def test_families_must_agree(self):
        with pytest.raises(
            AdapterFileError, match=r"families differ \(Stable Diffusion XL and Stable Diffusion 1\.x\)"
        ):
            merge([random_adapter("a"), random_adapter("b", family="sdxl")])

    def test_a_name_may_come_once(self):
        with pytest.raises(AdapterFileError, match="'a', which another of these adapters also contains"):
            merge([random_adapter("a"), random_adapter("a")])

    def test_nothing_to_merge_is_said(self):
        with pytest.raises(AdapterFileError, match="nothing to merge"):
            merge([])
