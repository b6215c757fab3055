"""`respodiff train`: a recipe file and flags become one recipe; flags win."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import torch
import typer

from ..respodiff_core.concept import NAME_FORBIDS
from ..respodiff_core.families import family_title
from .base.model import describe
from .estimate import estimate
from .options import given
from .recipe import Recipe, expand_group, read_toml
from .run.parts import check_words, precision
from .strict import RecipeError

Flags = Mapping[str, Any]
"""Settings by their names in a recipe; None and empty lists are flags that were not given."""


def assemble(
    file: Path | None, *, top: Flags, concept: Flags, presets: list[str], sections: Mapping[str, Flags]
) -> Recipe:
    """One checked recipe. `concept` holds what flags say of a concept: one of the user's own where `name` or a prompt
    is given without a recipe or a preset, else the same for every concept. Raises RecipeError.
    """
    values = read_toml(file) if file else {}
    values |= given(top)
    own = given(concept)
    named = [*values.get("concepts", []), *({"preset": name} for name in presets)]
    concepts = [one for concept in named for one in expand_group(concept)]
    if not concepts and own.keys() & {"target", "negative"}:
        own.setdefault("name", _name_of(values))
        concepts = [{}]
    if len(concepts) > 1 and "name" in own:
        raise RecipeError("--name names one concept, but there are several; name them in a recipe file.")
    if not concepts:
        raise RecipeError(
            "There is nothing to train: choose a --preset (--preset gender/woman), describe a concept of your own "
            "(--target 'an old person' --neutral 'a person'), or give a recipe file."
        )
    values["concepts"] = [{**one, **own} for one in concepts]
    for name, flags in sections.items():
        if chosen := given(flags):
            values[name] = {**values.get(name, {}), **chosen}
    return Recipe.of(values)


def show_plan(recipe: Recipe) -> None:
    """Print what a run would do and cost: the recipe with every value, then evaluations and memory."""
    check_words(recipe)
    base = describe(recipe.base)
    prediction = base.prediction if recipe.training.prediction == "auto" else recipe.training.prediction
    device = torch.device("cuda" if torch.cuda.is_available() and recipe.training.device == "auto" else "cpu")
    dtype = precision(recipe.training.precision, device)
    size = recipe.training.latent_size(base.family) or base.latent_size
    cost = estimate(recipe, base.unet_config, size, dtype, base.pooled)
    typer.echo(tomli_w.dumps(_without_none(recipe.resolved())))
    lines = {
        "base": f"{base.name}: {family_title(base.family)}, {prediction} prediction, latents {size[1]} x {size[0]}",
        "cost": f"{cost.evaluations:,.0f} UNet evaluations for {cost.samples:,} training samples "
        f"({cost.evaluations / cost.samples:.1f} each)",
        "memory": f"about {_bytes(cost.memory)} on {device} in {str(dtype).removeprefix('torch.')}: UNet "
        f"{_bytes(cost.weights)}, gradient through the decoder {_bytes(cost.activations)} (less with fused "
        f"attention), RAM and SAM {_bytes(cost.modules)}",
    }
    for what, line in lines.items():
        typer.echo(f"# {what:<7} {line}")


def _name_of(values: Mapping[str, Any]) -> str:
    """A concept without a name is called like its file, as far as a name may."""
    stem = Path(str(values.get("output", "concept"))).stem
    return "".join("_" if character in NAME_FORBIDS else character for character in stem).strip()


def _without_none(values: Any) -> Any:
    """TOML has no null: what is not set is left out."""
    if isinstance(values, Mapping):
        return {key: _without_none(value) for key, value in values.items() if value is not None}
    return values


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _bytes(size: float) -> str:
    return next((f"{size / scale:.1f} {unit}" for scale, unit in _UNITS if size >= scale / 10), "0 kB")
