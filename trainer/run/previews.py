"""Preview images while training: the same prompts and seed at several strengths."""

from __future__ import annotations

import torch
from PIL import Image

from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.learning.diffusion import Schedule
from ...respodiff_core.learning.sampling import noise_of_seeds, sample
from ...respodiff_core.steering.fair_groups import FairGroup, steer_rows
from ...respodiff_core.steering.steering import Term
from ..base.model import BaseModel
from ..recipes.training_recipe import PreviewRecipe
from ..support.contact_sheet import draw, pixels

_WIDTH = 192  # pixels, of each image in a sheet


def preview(
    base: BaseModel, concept: Concept, recipe: PreviewRecipe, condition: Condition, empty: Condition
) -> Image.Image:
    """A contact sheet with one row per prompt (a row of `condition` each) and one column per strength."""
    schedule = Schedule.of(base.alphas_cumprod, recipe.schedule_steps)
    device = condition.context.device
    noise = noise_of_seeds([recipe.seed], base.latent_size).to(device)
    strengths = recipe.strengths
    given = [FairGroup(concept.name, (Term(concept, strength),)) for strength in strengths]
    steer = steer_rows(given)  # brought to the device once, for all prompts
    rows = []
    for number, prompt in enumerate(recipe.prompts):
        z = sample(
            base.denoiser,
            schedule,
            noise.expand(len(strengths), -1, -1, -1),
            condition.rows(torch.full((len(strengths),), number, dtype=torch.long, device=device)),
            empty,
            guidance=recipe.guidance,
            steer=steer,
        )
        # One at a time: SDXL's autoencoder needs gigabytes per image.
        rows.append((prompt, [pixels(base.decode_latents(one)[0]) for one in z.split(1)]))
    return draw(rows, [f"{strength:g}" for strength in strengths], _WIDTH, f"{concept.name}, by strength")
