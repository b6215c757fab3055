"""The adapters of an experiment, each trained once."""

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
    """The path of the recipe's adapter, which is trained or resumed if it does not exist.

    Raises RespoDiffError if an existing file or an unfinished training has other settings.
    """
    resolved = recipe.resolved()
    del resolved["output"]
    run = RunFolder(recipe.output)
    record = recipe.output.with_suffix(".recipe.json")
    exists, is_recorded = recipe.output.exists(), record.exists()
    if exists and not is_recorded:
        raise RespoDiffError(f"{recipe.output} exists and was not trained by this command: name another folder.")
    if is_recorded and (exists or run.is_unfinished) and json.loads(record.read_text("utf-8")) != resolved:
        raise RespoDiffError(
            f"{recipe.output} was trained with other settings: name another folder, or delete "
            f"{', '.join(path.name for path in (recipe.output, run.path) if path.exists())}."
        )
    if exists:
        return recipe.output
    recipe.output.parent.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        write_text(record, json.dumps(resolved, indent=1))
    return train(recipe, resume=run.is_unfinished)
