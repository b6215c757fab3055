"""The manifest of an evaluation: everything that determines its images, with hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from ..base.model import BaseModel
from ..recipes.evaluation_recipe import EvalRecipe, VariantRecipe
from ..worlds.image_spec import ImageSpec
from .variants import Variant


def manifest_of(
    recipe: EvalRecipe, base: BaseModel, variants: Sequence[Variant], specs: Sequence[ImageSpec]
) -> dict[str, Any]:
    """Base model, adapters, strengths, prompts and sampling: the same manifest means the same images."""
    sampling = recipe.sampling
    return {
        "protocol": recipe.protocol,
        "extended": recipe.extended,
        "base": {"name": base.name, "family": base.family, "sha256": base.sha256},
        "asked": {"images": len(specs), "sha256": _digest([astuple(one) for one in specs])},
        "seed": recipe.seed,
        "sampling": {
            "schedule_steps": sampling.schedule_steps,
            "guidance": sampling.guidance,
            "batch": sampling.batch,
            "latent_size": list(base.latent_size),
            "prediction": base.prediction,
            "precision": str(base.dtype).removeprefix("torch."),
        },
        "variants": {
            one.name: _variant(recipe, one, variant) for one, variant in zip(recipe.variants, variants, strict=True)
        },
    }


def _variant(recipe: EvalRecipe, one: VariantRecipe, variant: Variant) -> dict[str, Any]:
    terms = [term for group in variant.groups for term in group.terms] + list(variant.always)
    return {
        "adapters": dict(variant.files),
        "strength": one.strength,
        "guidance": recipe.guidance_of(one),
        "named": one.named,
        "gate": one.gate,
        "groups": [group.name for group in variant.groups],
        "strengths": {term.concept.name: term.ram_strength for term in terms},
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
