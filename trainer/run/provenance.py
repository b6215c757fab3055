"""What an adapter says of itself: how it was trained, on what, by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.concept import Concept, ConceptInfo
from ..base.model import BaseModel
from ..recipes.training import ConceptRecipe, Recipe


def training_facts(
    base: BaseModel, recipe: Recipe, concept: ConceptRecipe, steps: int, processes: int
) -> dict[str, Any]:
    """How a concept was trained for so many steps, for its metadata; `batch` is that of all processes together."""
    training = recipe.training
    return {
        "base_model": base.name,
        "base_sha256": base.sha256,
        "guidance": concept.guidance,
        "steps": steps,
        "batch": training.batch * processes,
        "ram_rate": concept.ram_rate,
        "sam_rate": concept.sam_rate,
        "sam_weight": concept.sam_weight,
        "update": training.update,
        "rollout": training.rollout,
        "precision": str(base.dtype).removeprefix("torch."),
        "seed": training.seed,
        "tool": f"respodiff {version('respodiff')}",
    }


def concept_info(base: BaseModel, concept: ConceptRecipe, facts: Mapping[str, Any]) -> ConceptInfo:
    """What the file says of a concept; several neutral prompts stand beside each other."""
    height, width = base.latent_size
    return ConceptInfo(
        concept.name,
        concept.category,
        target=concept.target,
        neutral=" | ".join(concept.neutral),
        negative=concept.negative,
        latent_height=height,
        latent_width=width,
        training=facts,
        axis=concept.axis,
        synonyms=tuple(concept.synonyms),
    )


def make_adapter(base: BaseModel, recipe: Recipe, concepts: Sequence[Concept], begun: str) -> Adapter:
    """The adapter of these concepts; `begun` is the day on which training began."""
    about = {f"modelspec.{key}": value for key, value in recipe.about if value}
    return Adapter(
        base.family,
        {concept.name: concept for concept in concepts},
        base.prediction,
        {"modelspec.date": begun, **about},
        source=recipe.output.name,
    )
