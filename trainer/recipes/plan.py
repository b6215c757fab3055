"""`respodiff train`: a recipe file and flags become one recipe; flags win."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...respodiff_core.adapter.concept import NAME_FORBIDS
from .strict import RecipeError, given
from .training import Recipe, expand_group, read_toml

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


def _name_of(values: Mapping[str, Any]) -> str:
    """A concept without a name is called like its file, as far as a name may."""
    stem = Path(str(values.get("output", "concept"))).stem
    return "".join("_" if character in NAME_FORBIDS else character for character in stem).strip()
