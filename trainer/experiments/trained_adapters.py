"""The adapters of an experiment, each made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...respodiff_core.atomic import write_text
from ...respodiff_core.errors import RespoDiffError
from ..base.devices import accelerator_on
from ..recipes.contrast_recipe import ContrastRecipe
from ..recipes.training_recipe import Recipe
from ..run.contrast import contrast
from ..run.run_folder import RunFolder
from ..run.training import train
from ..support.processes import is_main_process
from .attention_training import train_at_layers


def trained(recipe: Recipe) -> Path:
    """The path of the recipe's adapter, which is trained or resumed if it does not exist.

    Raises RespoDiffError if an existing file or an unfinished training has other settings.
    """
    run = RunFolder(recipe.output)
    if _is_made(recipe.output, recipe.resolved(), run):
        return recipe.output
    return train(recipe, resume=run.is_unfinished)


def trained_at_layers(recipe: Recipe, places: int) -> Path:
    """The path of the recipe's adapter, trained at the cross-attention layers if it does not exist.

    Raises RespoDiffError if an existing file has other settings.
    """
    with accelerator_on(recipe.training.device).main_process_first():  # the others find the file
        if _is_made(recipe.output, {**recipe.resolved(), "places": places}):
            return recipe.output
        return train_at_layers(recipe, places)


def contrasted(recipe: ContrastRecipe) -> Path:
    """The path of the adapter of contrast concepts, which is computed if it does not exist.

    Raises RespoDiffError if an existing file has other settings.
    """
    with accelerator_on(recipe.model.device).main_process_first():  # the others find the file
        if _is_made(recipe.output, recipe.model_dump(mode="json")):
            return recipe.output
        return contrast(recipe)


def _is_made(output: Path, settings: dict[str, Any], run: RunFolder | None = None) -> bool:
    """Whether the adapter was made with these settings, which are recorded beside it. Raises RespoDiffError if it, or
    its unfinished training, was made otherwise.
    """
    settings = {name: value for name, value in settings.items() if name != "output"}
    record = output.with_suffix(".recipe.json")
    exists, is_recorded = output.exists(), record.exists()
    if exists and not is_recorded:
        raise RespoDiffError(f"{output} exists and was not made by this command: name another folder.")
    unfinished = run is not None and run.is_unfinished
    if is_recorded and (exists or unfinished) and json.loads(record.read_text("utf-8")) != settings:
        paths = [output, *([run.path] if run else [])]
        raise RespoDiffError(
            f"{output} was made with other settings: name another folder, or delete "
            f"{', '.join(path.name for path in paths if path.exists())}."
        )
    if not exists:
        output.parent.mkdir(parents=True, exist_ok=True)
        if is_main_process():
            write_text(record, json.dumps(settings, indent=1))
    return exists
