"""Metadata of a trained adapter: base model, settings, date, author."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.learning.fit import Fit
from ..base.model import BaseModel
from ..recipes.training_recipe import AboutRecipe, Recipe


def training_facts(base: BaseModel, fit: Fit) -> dict[str, Any]:
    """Metadata about a concept's training so far."""
    return {
        "base_model": base.name,
        "base_sha256": base.sha256,
        **fit.facts,
        "precision": str(base.dtype).removeprefix("torch."),
        "seed": fit.training.seed,
        "tool": f"respodiff {version('respodiff')}",
    }


def make_adapter(base: BaseModel, recipe: Recipe, concepts: Sequence[Concept], begun: str) -> Adapter:
    """The adapter with these concepts; `begun` is the date on which training began."""
    return Adapter(
        base.family,
        {concept.name: concept for concept in concepts},
        base.prediction,
        with_about(recipe.about, begun),
        source=recipe.output.name,
    )


def with_about(about: AboutRecipe, date: str) -> dict[str, str]:
    """The entries of ModelSpec."""
    return {"modelspec.date": date, **{f"modelspec.{key}": value for key, value in asdict(about).items() if value}}
