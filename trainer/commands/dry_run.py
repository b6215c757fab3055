"""`--dry-run` of train and contrast: the complete recipe and the estimated cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w
import typer

from ...respodiff_core.adapter.families import family_title
from ..base.devices import device_named, precision
from ..base.model import describe
from ..recipes.contrast_recipe import ContrastRecipe
from ..recipes.training_recipe import Recipe
from ..run.contrast import check_contrast_words
from ..run.estimate import estimate
from ..run.setup import check_words


def show_plan(recipe: Recipe) -> None:
    """Print the recipe with every value, the number of UNet evaluations and the estimated memory."""
    check_words(recipe)
    base = describe(recipe.base, text_encoders=recipe.training.text_encoders, vae=recipe.training.vae)
    prediction = base.prediction if recipe.training.prediction == "auto" else recipe.training.prediction
    device = device_named(recipe.training.device)
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
    for label, line in lines.items():
        typer.echo(f"# {label:<7} {line}")


def show_contrast(recipe: ContrastRecipe) -> None:
    """Print the recipe with every value and the number of UNet evaluations."""
    check_contrast_words(recipe)
    base = describe(recipe.base, text_encoders=recipe.model.text_encoders, vae=recipe.model.vae)
    typer.echo(tomli_w.dumps(_without_none(recipe.model_dump(mode="json"))))
    typer.echo(f"# base    {base.name}: {family_title(base.family)}")
    typer.echo(f"# cost    {recipe.contrast.evaluations:,} UNet evaluations")


def _without_none(values: Any) -> Any:
    """Drop unset values, since TOML has no null."""
    if isinstance(values, Mapping):
        return {key: _without_none(value) for key, value in values.items() if value is not None}
    return values


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _bytes(size: float) -> str:
    return next((f"{size / scale:.1f} {unit}" for scale, unit in _UNITS if size >= scale / 10), "0 kB")
