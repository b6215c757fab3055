"""The recipe of contrast concepts, validated from a TOML file and flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from ...respodiff_core.learning.contrast_presets import contrast_values
from ...respodiff_core.learning.contrast_settings import ContrastSettings
from ...respodiff_core.learning.settings import setting
from ...respodiff_core.names import SUFFIX
from .strict import STRICT, RecipeError, Strict, as_list, check_tables, checked, expand_user, given
from .training_recipe import AboutRecipe, FileDType, ModelRecipe, read_base_and_output


@dataclass(frozen=True, config=STRICT)
class ContrastTable(ContrastSettings):
    """The groups of one axis, and how their vectors are computed."""

    _as_list = field_validator("contexts", mode="before")(as_list)


@dataclass(frozen=True, config=STRICT)
class FileTable:
    """How the file is written."""

    dtype: FileDType = setting("float32", "Data type of the tensors in the adapter file.")


class ContrastRecipe(Strict):
    """The contrast concepts of one axis on a base model, written to one file."""

    base: str = Field(min_length=1)
    output: Path
    contrast: ContrastTable
    model: ModelRecipe = ModelRecipe()
    file: FileTable = FileTable()
    about: AboutRecipe = AboutRecipe()

    _expand_user = field_validator("output")(expand_user)

    @field_validator("output")
    @classmethod
    def _is_an_adapter(cls, output: Path) -> Path:
        if output.suffix != SUFFIX:
            raise ValueError(f"must end in {SUFFIX}, not {output.name!r}")
        return output


TABLES: dict[str, type] = {
    "contrast": ContrastTable,
    "model": ModelRecipe,
    "file": FileTable,
    "about": AboutRecipe,
}
"""The tables of a recipe."""


def assemble_contrast(
    file: Path | None, *, top: Mapping[str, Any], preset: str | None, sections: Mapping[str, Mapping[str, Any]]
) -> ContrastRecipe:
    """The validated recipe: a recipe file overrides its preset, and flags override both. Raises RecipeError."""
    values = read_base_and_output(file) if file else {}
    check_tables(values, tuple(TABLES), ())
    named = preset or values.pop("preset", None)
    values.pop("preset", None)
    values |= given(top)
    tables = {name: {**values.get(name, {}), **given(sections.get(name, {}))} for name in TABLES}
    if named:
        try:
            tables["contrast"] = {**contrast_values(str(named)), **tables["contrast"]}
        except ValueError as error:
            raise RecipeError(f"preset: {error}") from None
    if not tables["contrast"].get("groups"):
        raise RecipeError(
            "There is no group: choose a --preset (--preset gender), or name the groups (--group 'woman: a woman' "
            "--group 'man: a man')."
        )
    return checked(ContrastRecipe, {**values, **tables}, TABLES)
