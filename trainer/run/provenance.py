"""What an adapter says of itself: how it was trained, on what, by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.learning.fit import Fit
from ..base.model import BaseModel
from ..recipes.training_recipe import Recipe


def training_facts(base: BaseModel, fit: Fit) -> dict[str, Any]:
    """How a concept was trained until now, for its metadata."""
    return {
        "base_model": base.name,
        "base_sha256": base.sha256,
        **fit.facts,
        "precision": str(base.dtype).removeprefix("torch."),
        "seed": fit.training.seed,
        "tool": f"respodiff {version('respodiff')}",
    }


def make_adapter(base: BaseModel, recipe: Recipe, concepts: Sequence[Concept], begun: str) -> Adapter:
    """The adapter of these concepts; `begun` is the day on which training began."""
    about = {f"modelspec.{key}": value for key, value in asdict(recipe.about).items() if value}
    return Adapter(
        base.family,
        {concept.name: concept for concept in concepts},
        base.prediction,
        {"modelspec.date": begun, **about},
        source=recipe.output.name,
    )
