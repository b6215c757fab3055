"""The reference code's pickles: the right column under the right name, and no code run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from respodiff.respodiff_core.adapter.adapter import read, write
from respodiff.respodiff_core.adapter.importers import import_weights
from respodiff.respodiff_core.errors import AdapterFileError, UnknownConceptError

RAM, SAM = "controlnet.fc1.weight", "controlnet_residual.fc2.weight"
ROWS = 1280 * 8 * 8


def respodiff_file(folder: Path, *trained: int, prefix: str = "") -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A file as the reference trainer leaves it: ten random columns, some of them trained."""
    generator = torch.Generator().manual_seed(0)
    ram, sam = ((torch.rand(ROWS, 10, generator=generator) * 2 - 1) * 10**-0.5 for _ in range(2))
    for column in trained:
        ram[:, column] *= 20
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({prefix + RAM: ram, prefix + SAM: sam}, folder / "unet.pth")
    return folder / "unet.pth", ram, sam


def column(weights: torch.Tensor, index: int) -> torch.Tensor:
    return weights[:, index].reshape(1280, 8, 8)


class TestRespoDiff:
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_the_trained_column_is_found_by_its_size(self, tmp_path, prefix):
        path, ram, sam = respodiff_file(tmp_path, 1, prefix=prefix)
        adapter = import_weights(path)
        man = adapter.concepts["man"]
        assert list(adapter.concepts) == ["man"]
        assert torch.equal(man.ram.tensors[""], column(ram, 1))
        assert torch.equal(man.sam.tensors[""], column(sam, 1))
        assert (adapter.family, man.info.target, man.info.neutral) == ("sd15", "a man", "a person")

    @pytest.mark.parametrize("folder", ["a white-race person/0", "a white-race person"])
    def test_folders_tell_which_concept_shares_a_column(self, tmp_path, folder):
        path, ram, _ = respodiff_file(tmp_path / folder, 3)
        (concept,) = import_weights(path).concepts.values()
        assert concept.name == "white"
        assert torch.equal(concept.ram.tensors[""], column(ram, 3))

    @pytest.mark.parametrize(
        "written", ["concept:\n- old\n", "concept: [old]\n", "seed: 0\nconcept:\n  - 'old'\nx: 1\n"]
    )
    def test_the_config_beside_tells_too(self, tmp_path, written):
        path, _, _ = respodiff_file(tmp_path, 3)
        (tmp_path / "config.yaml").write_text(written)
        assert list(import_weights(path).concepts) == ["old"]

    def test_an_explicit_name_wins(self, tmp_path):
        path, ram, _ = respodiff_file(tmp_path / "a woman", 0, 4)
        (concept,) = import_weights(path, "black").concepts.values()
        assert torch.equal(concept.ram.tensors[""], column(ram, 4))
        assert list(import_weights(path, "a black-race person").concepts) == ["black"]

    @pytest.mark.parametrize("trained", [(), (0, 1), (3,), (9,)])
    def test_what_is_not_clear_is_asked_for(self, tmp_path, trained):
        """No column, two, the one that two concepts share, and one that no concept has."""
        path, _, _ = respodiff_file(tmp_path, *trained)
        with pytest.raises(AdapterFileError, match="Name it: one of"):
            import_weights(path)

    @pytest.mark.parametrize("named_by", ["name", "folder", "config"])
    def test_what_is_not_trained_is_refused_whatever_names_it(self, tmp_path, named_by):
        path, _, _ = respodiff_file(tmp_path / ("a man" if named_by == "folder" else "x"), 0)
        if named_by == "config":
            (path.parent / "config.yaml").write_text("concept: [a man]")
        said = "the numbers for man are not trained; those of woman are"
        with pytest.raises(AdapterFileError, match=said):
            import_weights(path, "a man" if named_by == "name" else None)

    def test_nan_is_said(self, tmp_path):
        path, ram, sam = respodiff_file(tmp_path, 0)
        ram[5, 0] = float("nan")
        torch.save({RAM: ram, SAM: sam}, path)
        with pytest.raises(AdapterFileError, match=r"unet.pth has NaN or infinite numbers"):
            import_weights(path)

    def test_parameters_are_tensors(self, tmp_path):
        path, ram, sam = respodiff_file(tmp_path, 0)
        torch.save({RAM: torch.nn.Parameter(ram), SAM: torch.nn.Parameter(sam)}, path)
        assert torch.equal(import_weights(path).concepts["woman"].ram.tensors[""], column(ram, 0))

    def test_torchs_old_format_is_named(self, tmp_path):
        path, ram, sam = respodiff_file(tmp_path, 0)
        torch.save({RAM: ram, SAM: sam}, path, _use_new_zipfile_serialization=False)
        with pytest.raises(AdapterFileError, match=r"format of torch before 1.6; load it with torch and save it again"):
            import_weights(path)

    def test_safety_concepts_point_away_already(self, tmp_path):
        path, _, _ = respodiff_file(tmp_path, 7)
        (violence,) = import_weights(path).concepts.values()
        assert (violence.info.category, violence.info.negative, violence.info.neutral) == (
            "safety",
            "violence",
            "a scene",
        )

    def test_an_unknown_concept_is_answered_with_the_known(self, tmp_path):
        path, _, _ = respodiff_file(tmp_path, 0)
        with pytest.raises(UnknownConceptError, match="Its columns are: woman, man"):
            import_weights(path, "tall")

    def test_the_result_is_an_adapter_file(self, tmp_path):
        path, _, _ = respodiff_file(tmp_path, 0)
        assert list(read(write(import_weights(path), tmp_path / "woman.safetensors")).concepts) == ["woman"]


class TestSDisc:
    def test_all_eight_concepts_come_without_a_sam(self, tmp_path):
        weights = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0))
        torch.save({RAM: weights}, tmp_path / "unet.pth")
        concepts = import_weights(tmp_path / "unet.pth").concepts
        assert list(concepts) == ["woman", "man", "young", "old", "white", "black", "asian", "sexual"]
        assert torch.equal(concepts["black"].ram.tensors[""], column(weights, 5))
        assert not concepts["black"].sam.tensors[""].any()
        assert concepts["sexual"].info.category == "safety"

    def test_its_trainers_columns_are_named_by_the_listing_beside(self, tmp_path):
        weights = (torch.rand(ROWS, 100) * 2 - 1) * 0.1
        weights[:, 1] *= 30
        torch.save({RAM: weights}, tmp_path / "unet.pth")
        with pytest.raises(AdapterFileError, match=r"concept_dict\.json"):
            import_weights(tmp_path / "unet.pth")
        (tmp_path / "concept_dict.json").write_text(json.dumps({"woman": 0, "man": 1}))
        assert list(import_weights(tmp_path / "unet.pth").concepts) == ["man"]
        with pytest.raises(AdapterFileError, match="numbers for woman are not trained; those of man are"):
            import_weights(tmp_path / "unet.pth", "woman")


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


class TestRefusals:
    def test_code_in_a_pickle_never_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        torch.save({RAM: Evil()}, tmp_path / "unet.pth")
        with pytest.raises(AdapterFileError, match="not opened"):
            import_weights(tmp_path / "unet.pth")
        assert not (tmp_path / "pwned").exists()

    @pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(Evil()), b"PK\x03\x04 cut short"])
    def test_other_files_are_refused(self, tmp_path, content):
        (tmp_path / "unet.pth").write_bytes(content)
        with pytest.raises(AdapterFileError, match="not a file of plain tensors"):
            import_weights(tmp_path / "unet.pth")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([torch.zeros(2)], "not a dictionary of tensors"),
            ({"state": 1}, "not a dictionary of tensors"),
            ({"other.weight": torch.zeros(2)}, "not a RespoDiff or SDisc file"),
            ({RAM: torch.zeros(5, 10), SAM: torch.zeros(5, 10)}, r"\(5, 10\)"),
            ({RAM: torch.zeros(ROWS, 10, dtype=torch.int8)}, "floating point"),
            ({RAM: torch.zeros(ROWS, 4), SAM: torch.zeros(ROWS, 4)}, "expected .* for both"),
        ],
    )
    def test_other_contents_are_told_apart(self, tmp_path, content, message):
        torch.save(content, tmp_path / "unet.pth")
        with pytest.raises(AdapterFileError, match=message):
            import_weights(tmp_path / "unet.pth")

    def test_a_missing_file_is_said(self, tmp_path):
        with pytest.raises(AdapterFileError, match="There is no file"):
            import_weights(tmp_path / "unet.pth")
