"""ToyWorld: a biased world whose pictures can be read without a network, and a pipeline like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from respodiff.trainer import toyworld
from respodiff.trainer.base.model import load_base
from respodiff.trainer.toyworld.classifier import classify
from respodiff.trainer.toyworld.renderer import render
from respodiff.trainer.toyworld.scenes import (
    HUES,
    PERSON,
    PROFESSIONS,
    SHAPES,
    phrase,
    sample,
    usual_hue,
    usual_shape,
    words,
)
from safetensors.torch import load_file
from transformers import CLIPTokenizer

MODEL = toyworld.TOYWORLD_FOLDER


@pytest.fixture(scope="module")
def drawn():
    scenes, captions = sample(1500, np.random.default_rng(7))
    return scenes, captions, (render(scenes) + 1) / 2


def test_every_drawing_is_read_right(drawn):
    scenes, _, images = drawn
    seen = classify(images)
    for what in ("profession", "shape", "hue", "hazard"):
        assert (getattr(seen, what) == getattr(scenes, what)).all(), what
    assert seen.error.max() < 0.1


def test_a_drawing_is_read_right_through_noise_and_the_autoencoder(drawn):
    scenes, _, images = drawn
    base = load_base("toyworld")
    part = slice(0, 200)
    vae = AutoencoderKL.from_pretrained(MODEL / "vae")
    with torch.no_grad():
        latents = vae.encode(images[part] * 2 - 1).latent_dist.mode() * base.latent_scale
    noisy = (images[part] + 0.1 * torch.randn(images[part].shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    # The autoencoder blurs a head's corners.
    for changed, least in ((base.decode_latents(latents), 0.97), (noisy, 0.99)):
        seen = classify(changed)
        for what in ("profession", "shape", "hue", "hazard"):
            assert (getattr(seen, what) == getattr(scenes, what)[part]).mean() >= least, what


def test_professions_are_biased_unless_the_caption_says_otherwise(drawn):
    scenes, captions, _ = drawn
    for labels, usual, names in (
        (scenes.shape, usual_shape(scenes.profession), SHAPES),
        (scenes.hue, usual_hue(scenes.profession), HUES),
    ):
        unsaid = np.array([not any(name in caption for name in names) for caption in captions])
        assert (labels == usual)[(scenes.profession != PERSON) & unsaid].mean() >= 0.9
    said = np.array([f"square {name}" in caption for caption, name in zip(captions, _nouns(scenes), strict=True)])
    assert (scenes.shape[said] == 1).all()


def _nouns(scenes) -> list[str]:
    return [PROFESSIONS[p] if p < PERSON else "person" for p in scenes.profession]


def test_the_same_scene_is_the_same_picture(drawn):
    scenes, _, images = drawn
    assert torch.equal((render(scenes[slice(0, 20)]) + 1) / 2, images[:20])


def test_every_word_is_one_token():
    tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    assert {word: len(tokenizer(word).input_ids) for word in words()} == dict.fromkeys(words(), 3)
    assert max(len(tokenizer(caption).input_ids) for caption in sample(500, np.random.default_rng(0))[1]) <= 20


def test_it_is_a_diffusers_pipeline_of_a_few_megabytes():
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) < 8e6
    pipeline = StableDiffusionPipeline.from_pretrained(
        MODEL, safety_checker=None, local_files_only=True, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    made = pipeline(
        ["a photo of a doctor"] * 2, height=64, width=64, num_inference_steps=12, generator=generator, output_type="pt"
    )
    seen = classify(made.images)
    assert (seen.profession == PROFESSIONS.index("doctor")).all()


def test_every_version_of_transformers_finds_the_text_encoders_weights():
    """Version 5 saves them without the prefix, and version 4 then goes on with random ones."""
    names = load_file(MODEL / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names)


def test_articles_fit():
    assert phrase("doctor", "amber", template="a photo of") == "a photo of an amber doctor"
    assert phrase("person") == "a person"
