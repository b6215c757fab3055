"""Adapters that an experiment trains, each once."""

from __future__ import annotations

import json
from pathlib import Path

from ...respodiff_core.atomic import write_text
from ...respodiff_core.errors import RespoDiffError
from ..recipes.training_recipe import Recipe
from ..run.run_folder import RunFolder
from ..run.training import train
from ..support.processes import is_main_process


def trained(recipe: Recipe) -> Path:
    """The adapter of this recipe: as it is there, gone on with, or trained now.

    Raises RespoDiffError where the file there was trained otherwise.
    """
    resolved = recipe.resolved()
    del resolved["output"]
    noted = recipe.output.with_suffix(".recipe.json")
    if noted.exists() and json.loads(noted.read_text("utf-8")) != resolved:
        raise RespoDiffError(f"{recipe.output} was trained with other settings: name another folder, or delete it.")
    if recipe.output.exists():
        if noted.exists():
            return recipe.output
        raise RespoDiffError(f"{recipe.output} is there already, and was not trained here: name another folder.")
    recipe.output.parent.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        write_text(noted, json.dumps(resolved, indent=1))
    unfinished = RunFolder(recipe.output).is_unfinished
    return train(recipe, resume=unfinished)
