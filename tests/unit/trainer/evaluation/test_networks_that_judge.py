"""CLIP and DINO as judges: their columns, held against references, and models that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.evaluation.scorers import clip as clip_module
from respodiff.trainer.evaluation.scorers.alignment import Alignment
from respodiff.trainer.evaluation.scorers.clip import Clip, load_clip
from respodiff.trainer.evaluation.scorers.distance import load_dino
from respodiff.trainer.evaluation.scorers.labels import ClipClassifier
from respodiff.trainer.evaluation.scorers.pretrained import load_pretrained
from safetensors.torch import load_file, save_file
from small_judges import (
    AGE,
    DIMENSION,
    GENDER,
    Counted,
    FakeClip,
    noise,
    shown,
    write_clip,
    write_dino,
    write_first_dino,
)
from torchmetrics.functional.multimodal import clip_score
from transformers import CLIPModel, CLIPProcessor

PROMPTS = ("a photo of a doctor", "Portrait of a CEO", "a cat!", "a picture of a tailor in a park")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory) -> Path:
    return write_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def clip_parts(clip_folder):
    return load_pretrained(str(clip_folder), "cpu", (CLIPModel, CLIPProcessor), ("clip",), "--clip")


@pytest.fixture
def clip(clip_parts):
    return Clip(clip_parts)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def changed_copy(folder: Path, to: Path, change) -> Path:
    """A model's folder with other weights: `change` takes the tensors by name and changes them in place."""
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    change(tensors)
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


def as_tensors(features) -> torch.Tensor:
    """As transformers 4 gives them."""
    return getattr(features, "pooler_output", features)


class TestClip:
    def test_pictures_and_texts_become_unit_vectors(self, clip):
        for vectors in (clip.images([noise(0), noise(1, (30, 90))]), clip.texts(PROMPTS[:2])):
            assert vectors.shape == (2, clip.dimension) == (2, DIMENSION)
            assert vectors.dtype == torch.float32
            assert torch.allclose(vectors.norm(dim=1), torch.ones(2))

    def test_alignment_is_torchmetrics_clip_score_where_that_is_not_cut_to_zero(self, clip):
        """Its own loading and this transformers do not go together, so it is handed the model, with tensors for
        features as it expects them."""

        class WithTensors:
            config = clip._model.config

            def to(self, device):
                return self

            def get_image_features(self, pixels):
                return as_tensors(clip._model.get_image_features(pixels))

            def get_text_features(self, ids, mask):
                return as_tensors(clip._model.get_text_features(ids, mask))

        def theirs(image: Image.Image, prompt: str) -> float:
            pixels = torch.from_numpy(np.array(image)).movedim(-1, 0)
            return float(clip_score(pixels, prompt, lambda: (WithTensors(), clip._processor)).detach())

        pairs = [(noise(seed), prompt) for seed in range(3) for prompt in PROMPTS]
        scored = Alignment(clip).score([shown(*pair) for pair in pairs])
        ours = [scores["alignment"] for scores in scored]
        assert [max(0.0, one) for one in ours] == pytest.approx([theirs(*pair) for pair in pairs], rel=1e-4)
        assert min(ours) < 0 < max(ours)

    def test_one_look_at_a_batch_serves_all_scorers(self, clip, monkeypatch):
        look = Counted(clip._model.get_image_features)
        monkeypatch.setattr(clip._model, "get_image_features", look)
        batches = [[shown(noise(0), "a"), shown(noise(1), "b")], [shown(noise(0), "a"), shown(noise(2), "b")]]
        for batch in batches:
            assert [list(scores) for scores in Alignment(clip).score(batch)] == [["alignment"]] * 2
            labels = ClipClassifier(clip, (GENDER, AGE)).score(batch)
            assert [list(scores) for scores in labels] == [["label:gender", "label:age"]] * 2
        assert len(look.calls) == len(batches)

    def test_a_label_is_the_text_that_fits_best_and_the_first_of_equals(self):
        texts = {GENDER.texts[0]: (1.0, 0.0), GENDER.texts[1]: (0.0, 1.0)}
        fake = FakeClip([(1, 0), (0, 1), (0.5, 0.5), (-0.5, -0.5)], texts)
        scored = ClipClassifier(fake, (GENDER,)).score([shown(noise(0))] * 4)
        assert scored == [{"label:gender": label} for label in (0, 1, 0, 0)]

    def test_a_prompt_is_read_up_to_77_tokens(self, clip):
        long, cut, shorter = clip.texts(["cat " * 300, "cat " * 75, "cat " * 74])
        assert torch.allclose(long, cut, atol=1e-6)
        assert not torch.allclose(long, shorter, atol=1e-6)

    def test_a_text_is_encoded_once(self, clip, monkeypatch):
        encode = Counted(clip._encode)
        monkeypatch.setattr(clip, "_encode", encode)
        first = clip.texts(["a", "b", "a"])
        assert torch.equal(clip.texts(["b", "a"]), first[[1, 0]])
        assert torch.equal(first[0], first[2])
        assert encode.calls == [("a",), ("b",)]

    def test_the_oldest_texts_are_forgotten(self, clip, monkeypatch):
        monkeypatch.setattr(clip_module, "_TEXTS_KEPT", 3)
        assert clip.texts([*"abcde"]).shape == (5, DIMENSION)
        assert list(clip._known) == [*"cde"]

    def test_features_may_come_as_tensors_as_transformers_4_gives_them(self, clip, monkeypatch):
        expected = clip.images([noise(0)])
        outputs = clip._model.get_image_features
        monkeypatch.setattr(clip._model, "get_image_features", lambda **inputs: as_tensors(outputs(**inputs)))
        assert torch.equal(clip.images([noise(0)]), expected)

    def test_the_fingerprint_tells_weights_and_settings_not_places(self, clip, clip_folder, tmp_path):
        moved = load_clip(str(shutil.copytree(clip_folder, tmp_path / "moved")), "cpu")
        other = load_clip(str(changed_copy(clip_folder, tmp_path / "other", lambda t: t["logit_scale"].add_(1))), "cpu")
        judges = [
            ClipClassifier(clip, (GENDER,)),
            ClipClassifier(other, (GENDER,)),
            ClipClassifier(clip, (GENDER, AGE)),
        ]
        assert ClipClassifier(moved, (GENDER,)).fingerprint == judges[0].fingerprint
        assert len({judge.fingerprint for judge in judges}) == len(judges)
        assert Alignment(moved).fingerprint == Alignment(clip).fingerprint != Alignment(other).fingerprint


class TestLoading:
    def test_what_is_not_there_is_to_be_downloaded(self, offline):
        with pytest.raises(RespoDiffError, match=r"`hf download openai/none`, or name its folder with --clip\."):
            load_clip("openai/none", "cpu")
        with pytest.raises(RespoDiffError, match="with --q16-clip"):
            load_clip("openai/none", "cpu", option="--q16-clip")
        with pytest.raises(RespoDiffError, match="with --dino"):
            load_dino("facebook/none", "cpu")

    def test_another_kind_of_model_is_told(self, clip_folder, dino_folder):
        with pytest.raises(RespoDiffError, match="of type dinov2; --clip needs clip"):
            load_clip(str(dino_folder), "cpu")
        with pytest.raises(RespoDiffError, match="of type clip; --dino needs dinov2 or"):
            load_dino(str(clip_folder), "cpu")

    @pytest.mark.parametrize("name", ["logit_scale", "text_model.final_layer_norm.weight"])
    def test_incomplete_weights_are_not_made_up(self, clip_folder, tmp_path, name):
        folder = changed_copy(clip_folder, tmp_path / "clip", lambda tensors: tensors.pop(name))
        with pytest.raises(RespoDiffError, match=f"incomplete: 1 are missing, e.g. {name}"):
            load_clip(str(folder), "cpu")

    @pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer_config.json"])
    def test_damaged_files_are_told(self, clip_folder, tmp_path, file):
        folder = shutil.copytree(clip_folder, tmp_path / "clip")
        os.truncate(folder / file, 100)
        with pytest.raises(RespoDiffError, match=r"could not be loaded \(.+\)\. Name another folder with --clip"):
            load_clip(str(folder), "cpu")

    def test_errors_without_a_class_are_told_too(self, clip_folder, tmp_path):
        folder = shutil.copytree(clip_folder, tmp_path / "clip")
        vocabulary = {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}
        (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": vocabulary}))
        with pytest.raises(RespoDiffError, match=r"could not be loaded \(.*out of vocabulary"):
            load_clip(str(folder), "cpu")

    def test_a_folder_without_a_model_is_told(self, tmp_path):
        with pytest.raises(RespoDiffError, match="Name another folder with --clip"):
            load_clip(str(tmp_path), "cpu")


class TestDino:
    @pytest.mark.parametrize("write", [write_dino, write_first_dino])
    def test_distance_is_one_minus_the_cosine_of_class_tokens(self, tmp_path, write):
        dino = load_dino(str(write(tmp_path)), "cpu")
        one, other = noise(0), noise(1)
        (scores,) = dino.score([shown(one, unsteered=other)])
        with torch.no_grad():
            a, b = (
                dino._model(**dino._processor(images=image, return_tensors="pt")).last_hidden_state[0, 0]
                for image in (one, other)
            )
        assert scores["distance"] == pytest.approx(1 - float(torch.cosine_similarity(a, b, dim=0)), abs=1e-5)
        assert scores["distance"] > 1e-3
        assert load_dino(str(tmp_path), "cpu").fingerprint == dino.fingerprint

    def test_the_same_picture_is_at_no_distance_and_without_a_pair_there_is_none(self, dino_folder):
        dino = load_dino(str(dino_folder), "cpu")
        scored = dino.score([shown(noise(0), unsteered=noise(0)), shown(noise(1))])
        assert scored == [{"distance": pytest.approx(0, abs=1e-6)}, {"distance": None}]
        assert dino.score([shown(noise(1))]) == [{"distance": None}]

    def test_a_picture_that_several_are_compared_with_is_looked_at_once(self, dino_folder, monkeypatch):
        dino = load_dino(str(dino_folder), "cpu")
        look = Counted(dino._processor)
        monkeypatch.setattr(dino, "_processor", look)
        unsteered = noise(0)
        dino.score([shown(noise(seed), unsteered=unsteered) for seed in (1, 2, 3)] + [shown(noise(4))])
        (call,) = look.calls
        assert len(call["images"]) == 4
