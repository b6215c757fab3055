"""Flags generated from the fields of recipes: name, type, choices, help and default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from ..recipes.strict import RecipeError, fields_of, given

_SHORT = 16
"""Characters of choices that fit beside the flag in a terminal of 80 columns."""

_TABLES = (dict, Mapping)
_REPEATABLE = (list, tuple, *_TABLES)

Settings = dict[str, dict[str, Any]]
"""Values of the flags that were given, by section and setting."""


@dataclass(frozen=True)
class Panel:
    """The settings of a recipe table as flags under one title in the help, except those in `without`."""

    section: str
    title: str
    model: type
    without: tuple[str, ...] = ()

    def parameters(self) -> Iterator[tuple[str, inspect.Parameter]]:
        """Yield the name of each setting and its command parameter."""
        for name, field in fields_of(self.model).items():
            if name not in self.without:
                option = typer.Option(
                    _flag(name, field), help=_help(field), metavar=_metavar(field), rich_help_panel=self.title
                )
                annotation = Annotated[_type_of(field) | None, option]  # type: ignore[valid-type]
                yield (
                    name,
                    inspect.Parameter(
                        f"{self.section}_{name}", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                    ),
                )


def with_settings(*panels: Panel) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flags of these panels to a command, which receives the given ones as `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        made = {parameter.name: (panel, name, parameter) for panel in panels for name, parameter in panel.parameters()}

        def run(**values: Any) -> None:
            settings: Settings = {panel.section: {} for panel in panels}
            for key, value in given({key: values.pop(key) for key in made}).items():
                panel, name, _ = made[key]
                try:
                    settings[panel.section][name] = _parsed(value, fields_of(panel.model)[name])
                except RecipeError as error:
                    raise typer.BadParameter(str(error)) from None
            command(**values, settings=settings)

        own = [
            one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for one in inspect.signature(command, eval_str=True).parameters.values()
            if one.name != "settings"
        ]
        parameters = [*own, *(parameter for _, _, parameter in made.values())]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _bare(annotation: Any) -> Any:
    """The type without None."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    return annotation


def _type_of(field: FieldInfo) -> Any:
    bare = _bare(field.annotation)
    if get_origin(bare) in (list, tuple):
        (item, *_) = get_args(bare)
        # typer does not support lists of choices; the recipe validates them.
        return list[str] if get_origin(item) is Literal else list[item]  # type: ignore[valid-type]
    return list[str] if get_origin(bare) in _TABLES else bare


def _item(field: FieldInfo) -> Any:
    """The type of one value of a flag."""
    bare = _bare(field.annotation)
    if get_origin(bare) in _TABLES:
        return str
    return get_args(bare)[0] if get_origin(bare) in (list, tuple) else bare


def _choices(field: FieldInfo) -> tuple[str, ...]:
    return get_args(item) if get_origin(item := _item(field)) is Literal else ()


def _metavar(field: FieldInfo) -> str:
    """The value of a flag in typer's notation: nothing for a switch, and choices only if they are short."""
    item, choices = _item(field), "|".join(_choices(field))
    if choices:
        return f"<{choices if len(choices) <= _SHORT else 'choice'}>"
    return "" if item is bool else f"<{item.__name__.lower()}>"


def _notes(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _flag(name: str, field: FieldInfo) -> str:
    if flag := _notes(field).get("flag"):
        return str(flag)
    is_repeatable = get_origin(_bare(field.annotation)) in _REPEATABLE
    words = name.removesuffix("s" if is_repeatable else "").replace("_", "-")
    return f"--{words}/--no-{words}" if field.annotation is bool else f"--{words}"


def _help(field: FieldInfo) -> str:
    kind = get_origin(_bare(field.annotation))
    description, choices = field.description or "", _choices(field)
    parts = [description]
    is_told = len("|".join(choices)) <= _SHORT or all(one in description for one in choices)
    parts += [] if is_told else [f"One of: {', '.join(choices)}."]
    parts += ["May be repeated."] if kind in _REPEATABLE else []
    if not field.is_required() and (default := _default_text(field.default)):
        parts.append(rf"\[default: {default}]")
    return " ".join(parts)


def _default_text(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, (list, tuple)):
        return ", ".join(map(_default_text, default))
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if isinstance(default, (int, str, Path)) else ""


def _parsed(value: Any, field: FieldInfo) -> Any:
    """The value of a setting; repeated flags NAME=VALUE become a table."""
    bare = _bare(field.annotation)
    if get_origin(bare) not in _TABLES:
        return value
    table: dict[str, Any] = {}
    for text in value:
        separator = str(_notes(field).get("separator", "="))
        key, found, entry = (part.strip() for part in text.partition(separator))
        if not found:
            raise RecipeError(f"{text!r} does not have the form NAME{separator}VALUE.")
        *tables, name = key.split(".", 1) if get_origin(get_args(bare)[1]) in _TABLES else [key]
        inner = table
        for one in tables:
            inner = inner.setdefault(one, {})
        inner[name] = entry
    return table
