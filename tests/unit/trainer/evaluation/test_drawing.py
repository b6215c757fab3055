"""Rows of one batch have prompts, seeds and steering of their own, and come out as if each were alone."""

from __future__ import annotations

import weakref

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from respodiff.respodiff_core.learning.sampling import noise_of_seeds
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.respodiff_core.steering.steering import Term
from respodiff.trainer.base.model import load_base
from respodiff.trainer.evaluation.generation import ImageGenerator
from respodiff.trainer.toyworld import TOYWORLD, TOYWORLD_FOLDER
from respodiff.trainer.worlds.image_spec import ImageSpec
from toyworld_adapters import concept

ASKED = [ImageSpec(str(n), f"a photo of a {who}", 10 + n) for n, who in enumerate(("doctor", "nurse", "cook", "baker"))]
NOBODY = FairGroup("", ())


@pytest.fixture(scope="module")
def image_generator() -> ImageGenerator:
    return ImageGenerator(load_base(TOYWORLD), steps=3)


@pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
@torch.inference_mode()
def test_a_mixed_batch_is_its_rows_drawn_alone(image_generator, kind):
    one, other = concept("round", "shape", 1, kind), concept("square", "shape", 2, kind)
    given = [
        FairGroup("round", (Term.of(one, 1.0),)),
        NOBODY,
        FairGroup("square", (Term.of(other, 0.5),)),
        FairGroup("both", (Term.of(one, 0.7), Term.of(other, 0.2))),
    ]
    together = image_generator.generate(ASKED, given)
    for number, (specs, group) in enumerate(zip(ASKED, given, strict=True)):
        torch.testing.assert_close(
            together[number], image_generator.generate([specs], [group])[0], rtol=1e-3, atol=1e-4
        )
    unsteered = image_generator.generate(ASKED, [NOBODY] * 4)
    torch.testing.assert_close(together[1], unsteered[1], rtol=1e-3, atol=1e-4)
    for row in (0, 2, 3):
        assert (together[row] - unsteered[row]).abs().max() > 2e-3, "steering does something"


@torch.inference_mode()
def test_without_steering_it_is_diffusers_own_pipeline(image_generator):
    pipeline = StableDiffusionPipeline.from_pretrained(TOYWORLD_FOLDER).to(torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    latents = noise_of_seeds([one.seed for one in ASKED], (16, 16))
    prompts = [one.prompt for one in ASKED]
    theirs = pipeline(prompts, latents=latents, num_inference_steps=3, guidance_scale=7.5, output_type="pt").images
    torch.testing.assert_close(image_generator.generate(ASKED, [NOBODY] * 4), theirs, rtol=1e-3, atol=1e-3)


def test_a_prompt_is_encoded_once(image_generator, monkeypatch):
    image_generator.generate(ASKED, [NOBODY] * 4)
    monkeypatch.setattr(image_generator.base, "encode_prompts", lambda prompts: pytest.fail(f"encoded {prompts} again"))
    image_generator.generate(ASKED, [NOBODY] * 4)


def test_the_model_is_given_back_when_drawing_is_over(image_generator):
    """Who judges afterwards needs its memory."""
    other = ImageGenerator(load_base(TOYWORLD), steps=3)
    other.generate(ASKED[:1], [NOBODY])
    alive = weakref.ref(other.base.denoiser.unet)
    del other
    assert alive() is None, "without waiting for the collector of cycles"
