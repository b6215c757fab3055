"""Options, panels and messages shared by several commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.spec import BASES
from ..recipes.evaluation_recipe import SamplingRecipe
from ..recipes.strict import fields_of
from ..recipes.training_recipe import ModelRecipe
from .flags import Panel, Settings

switch = partial(typer.Option, metavar="")
"""An option without a value."""

Base = Annotated[str, typer.Option(help=f"Base model: {BASES}.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Adapter file to write (.safetensors).")]
RecipeArgument = Annotated[Path | None, typer.Argument(help="Recipe file (TOML); flags override it.")]
RecipeBase = Annotated[
    str | None, typer.Option("--base", help=f"Base model: {BASES}. Required unless the recipe sets it.")
]
RecipeOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Adapter file to write (.safetensors). Required unless the recipe sets it."),
]
"""Recipe, base model and adapter file of the commands that take a recipe."""
Force = Annotated[bool, switch("--force", help="Replace the output if it exists.")]
STOPPED = "Stopped. Results so far are kept in {}; run the same command to resume."

_MODEL = tuple(fields_of(ModelRecipe))


def sampling_panels(without: tuple[str, ...] = ()) -> tuple[Panel, Panel]:
    """The panels of a SamplingRecipe, except the settings in `without`."""
    return (
        Panel("sampling", "Model", ModelRecipe),
        Panel("sampling", "Sampling", SamplingRecipe, without=(*_MODEL, *without)),
    )


SAMPLING = sampling_panels()
"""The panels of a SamplingRecipe."""


def model_settings(settings: Settings) -> dict[str, Any]:
    """Those of the `sampling` settings that are settings of a training as well: how the base model runs."""
    return {name: value for name, value in settings["sampling"].items() if name in _MODEL}
