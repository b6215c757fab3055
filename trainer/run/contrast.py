"""Computes the contrast concepts of a recipe on its base model and writes them to a file."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...respodiff_core.adapter.adapter import Adapter, write
from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.errors import RespoDiffError, reason_of
from ...respodiff_core.learning.contrast import ContrastFit
from ..base.devices import device_named, load_as
from ..base.model import BaseModel
from ..recipes.contrast_recipe import ContrastRecipe
from ..recipes.strict import RecipeError
from ..support.output_file import refuse_to_replace
from ..support.progress_bars import progress_bar
from ..support.resource_errors import is_out_of_memory
from ..support.threads import fitting_threads
from ..worlds.lookup import world_of
from .provenance import with_about

log = logging.getLogger(__name__)


def contrast(recipe: ContrastRecipe, *, force: bool = False) -> Path:
    """Compute the concepts, write the adapter and return its path.

    Raises RespoDiffError for an unsuitable base model or for words that make no difference to it. Nothing is written
    before the end.
    """
    check_contrast_words(recipe)
    refuse_to_replace(recipe.output, force=force)
    device = device_named(recipe.model.device)
    try:
        base = load_as(recipe.base, recipe.model, device)
        concepts = _computed(recipe, base, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RespoDiffError(
            f"The device ran out of memory ({reason_of(error)}). Use less: --precision bfloat16, --width and --height "
            "below the native size, or --device cpu."
        ) from None
    begun = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    adapter = Adapter(
        base.family,
        {concept.name: concept for concept in concepts},
        base.prediction,
        with_about(recipe.about, begun),
        source=recipe.output.name,
    )
    return write(adapter, recipe.output, getattr(torch, recipe.file.dtype))


def check_contrast_words(recipe: ContrastRecipe) -> None:
    """Raise RecipeError for a prompt that the base model's world does not know."""
    texts = [text for context in recipe.contrast.contexts for text in recipe.contrast.texts(context)]
    if objection := world_of(recipe.base).objection_to(texts):
        raise RecipeError(f"These groups cannot be contrasted: {objection}")


def _computed(recipe: ContrastRecipe, base: BaseModel, device: torch.device) -> list[Concept]:
    settings = recipe.contrast
    # All prompts first: text encoders and UNet need not be in memory together.
    texts = ["", *dict.fromkeys(text for context in settings.contexts for text in settings.texts(context))]
    encoded = base.encode_prompts(texts).to(device)
    base.release_text_encoders()

    def encode(wanted: list[str]) -> Any:
        return encoded.rows(torch.tensor([texts.index(text) for text in wanted], device=device))

    fit = ContrastFit(base.denoiser, base.alphas_cumprod, settings, encode, latent=base.latent_size, device=device)
    log.info("Base model %s, sha256 %.12s...", base.name, base.sha256)
    with fitting_threads(base.weight_bytes), progress_bar(fit.steps, settings.axis or "contrast", "step") as bar:
        for _ in fit:
            bar.update()
    facts = {
        "base_model": base.name,
        "base_sha256": base.sha256,
        "precision": str(base.dtype).removeprefix("torch."),
        "tool": f"respodiff {version('respodiff')}",
    }
    return list(fit.finished(**facts))
