"""Validation of settings in TOML and flags; every typo is an error that names the setting."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from ...respodiff_core.errors import RespoDiffError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class RecipeError(RespoDiffError):
    """The recipe is invalid; the message names the setting and what it may be."""


RecipeError.__module__ = "respodiff"


STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)
"""Unknown keys are errors: a typo must not be ignored silently."""


class Strict(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(**STRICT, frozen=True)


_Model = TypeVar("_Model", bound=Strict)


def checked(model: type[_Model], values: Mapping[str, Any], sections: Mapping[str, type]) -> _Model:
    """Validate values by a model, with the models of its tables in `sections`. Raises RecipeError, which names every
    invalid setting.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, model, sections), lines=True) from None


parse_toml = tomllib.loads


def load_toml(path: Path) -> dict[str, Any]:
    """The values of a recipe file. Raises RecipeError."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from None


def check_tables(values: Mapping[str, Any], sections: Sequence[str], lists: Sequence[str]) -> None:
    """Raise RecipeError unless these sections are tables, and these lists are lists of tables."""
    for name in lists:
        given = values.get(name, [])
        if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
            raise RecipeError(f"The recipe's {name} is not a list of tables: start each with a line [[{name}]].")
    for name in sections:
        if not isinstance(values.get(name, {}), Mapping):
            raise RecipeError(f"The recipe's {name} is not a table: start it with a line [{name}].")


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given: neither None nor an empty list."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def as_list(value: object) -> object:
    """Wrap a single text in a list."""
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(as_list)]


def fields_of(model: type) -> dict[str, FieldInfo]:
    """The fields of a recipe table, by name."""
    fields: dict[str, FieldInfo] = model.__pydantic_fields__  # type: ignore[attr-defined]  # BaseModels and dataclasses
    return fields


def expand_user(path: Path) -> Path:
    """Replace a leading ~ by the home folder."""
    return path.expanduser()


def _explain(error: ValidationError, model: type[Strict], sections: Mapping[str, type]) -> str:
    lines = []
    for one in error.errors():
        place = ".".join(str(part + 1) if isinstance(part, int) else part for part in one["loc"])
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            message = f"there is no such setting{_did_you_mean(one['loc'], model, sections)}"
        elif one["type"] == "missing":
            message = "is missing"
        lines.append(f"{place}: {message}" if place else message)
    return "The recipe is invalid:\n" + "\n".join(f"  {line}" for line in lines)


def _did_you_mean(location: tuple[int | str, ...], model: type[Strict], sections: Mapping[str, type]) -> str:
    """The closest setting to a misspelt one, or else all settings."""
    known = fields_of(sections.get(str(location[0]), model) if len(location) > 1 else model)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the settings are: {', '.join(known)}"
