"""The results of an evaluation in files that machines read: a table of pictures, a table of figures, and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...respodiff_core.atomic import replacing, write_text
from ...respodiff_core.errors import RespoDiffError
from ..worlds.scorer import Axis
from .figures import Figure, Row, SettingFigures

FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class Results:
    """What `figures.json` holds: the manifest (see `provenance`), metrics, axes, figures by setting, and by name the
    pictures that could not be read, with the reason. `shown` names a few pictures of some groups, for the report,
    `confidence` is that of the intervals.
    """

    manifest: Mapping[str, Any]
    judges: Mapping[str, str]
    axes: tuple[Axis, ...]
    settings: Mapping[str, SettingFigures]
    damaged: Mapping[str, str]
    shown: Mapping[str, Sequence[str]]
    confidence: float

    def write(self, path: Path) -> None:
        """As JSON."""
        data = {"tool": f"respodiff {version('respodiff')}", **asdict(self)}
        write_text(path, json.dumps(data, indent=1, allow_nan=False))

    @classmethod
    def read(cls, path: Path) -> Results:
        """From an evaluation's folder, or its figures.json. Raises RespoDiffError."""
        path = path / FIGURES_FILE if path.is_dir() else path
        try:
            data = json.loads(path.read_text("utf-8"))
            return cls(
                data["manifest"],
                data["judges"],
                tuple(Axis(a["name"], tuple(a["classes"]), tuple(a["texts"])) for a in data["axes"]),
                {name: _setting(values) for name, values in data["settings"].items()},
                data["damaged"],
                data["shown"],
                data["confidence"],
            )
        except FileNotFoundError:
            raise RespoDiffError(
                f"There is no {path}: name the folder of a finished evaluation (`respodiff eval ... -o FOLDER`)."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RespoDiffError(f"{path} is not an evaluation's figures.json ({error!r}).") from None


def write_pictures_table(rows: Sequence[Row], axes: Sequence[Axis], path: Path) -> None:
    """A line for each picture: what was asked, what steered it, what was seen; classes by name."""
    columns = list(dict.fromkeys(column for row in rows for column in row.scores or {}))
    names = {axis.column: axis.classes for axis in axes}
    head = ["setting", "id", "group", "categories", "prompt", "seed", "steered"]
    head += [f"wanted:{axis.name}" for axis in axes] + columns + ["damaged"]
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            asked = row.job.asked
            wanted = [_class(row.wanted.get(axis.name), axis.classes) for axis in axes]
            scores = row.scores or {}
            seen = [_class(scores.get(c), names[c]) if c in names else _number(scores.get(c)) for c in columns]
            categories = ", ".join(asked.categories)
            line = [row.job.setting, asked.id, asked.group, categories, asked.prompt, asked.seed, row.job.given.name]
            writer.writerow([*line, *wanted, *seen, "" if row.scores is not None else "damaged"])


def write_figures_table(settings: Mapping[str, SettingFigures], path: Path) -> None:
    """A line for each figure of each setting, overall (group empty) and within groups."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", "group", "figure", "value", "low", "high", "pictures", "unknown"])
        for name, setting in settings.items():
            for group, figures in {"": setting.overall, **setting.groups}.items():
                for figure, one in figures.items():
                    numbers = [_number(n) for n in (one.value, one.low, one.high)]
                    writer.writerow([name, group, figure, *numbers, one.count, one.unknown])


def _setting(values: Mapping[str, Any]) -> SettingFigures:
    def figures(named: Mapping[str, Any]) -> dict[str, Figure]:
        return {name: Figure(**figure) for name, figure in named.items()}

    groups = {group: figures(named) for group, named in values["groups"].items()}
    return SettingFigures(values["pictures"], values["damaged"], figures(values["overall"]), groups)


def _class(number: float | None, classes: Sequence[str]) -> str:
    return "" if number is None else classes[int(number)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
