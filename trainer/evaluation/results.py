"""The result files of an evaluation: a table of images, a table of figures, and figures.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...respodiff_core.atomic import replacing, write_text
from ...respodiff_core.errors import RespoDiffError
from ..worlds.column import Column, FigureName
from ..worlds.scorer import Axis
from .figures import Figure, Row, VariantFigures

FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class Results:
    """The contents of `figures.json`: manifest, fingerprints of the scorers by name (`judges`), axes, figures by
    variant, unreadable images with the reason (`damaged`), some images by group for the report (`shown`), and the
    confidence level of the intervals. The file also describes each kind of figure, so that a report needs nothing else.
    """

    manifest: Mapping[str, Any]
    judges: Mapping[str, str]
    axes: tuple[Axis, ...]
    variants: Mapping[str, VariantFigures]
    damaged: Mapping[str, str]
    shown: Mapping[str, Sequence[str]]
    confidence: float

    def write(self, path: Path) -> None:
        """Write as JSON."""
        figures = [each for one in self.variants.values() for each in (one.overall, *one.groups.values())]
        kinds = {name.kind for named in figures for name in named}
        data = {
            "tool": f"respodiff {version('respodiff')}",
            "manifest": self.manifest,
            "judges": self.judges,
            "axes": [asdict(axis) for axis in self.axes],
            "columns": [asdict(kind) for kind in sorted(kinds, key=lambda kind: (kind.rank, kind.name))],
            "variants": {name: _written(one) for name, one in self.variants.items()},
            "damaged": self.damaged,
            "shown": self.shown,
            "confidence": self.confidence,
        }
        write_text(path, json.dumps(data, indent=1, allow_nan=False))

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read from an output folder, or its figures.json. Raises RespoDiffError."""
        path = path / FIGURES_FILE if path.is_dir() else path
        try:
            data = json.loads(path.read_text("utf-8"))
            columns = {values["name"]: _column(values) for values in data["columns"]}
            return cls(
                data["manifest"],
                data["judges"],
                tuple(Axis(a["name"], tuple(a["classes"]), tuple(a["texts"])) for a in data["axes"]),
                {name: _variant(values, columns) for name, values in data["variants"].items()},
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


def write_images_table(rows: Sequence[Row], axes: Sequence[Axis], path: Path) -> None:
    """One line per image: its spec, its steering, its scores; classes by name."""
    columns = list(dict.fromkeys(column for row in rows for column in row.scores or {}))
    names = {axis.column: axis.classes for axis in axes}
    head = ["variant", "id", "group", "categories", "prompt", "seed", "steered"]
    head += [f"wanted:{axis.name}" for axis in axes] + columns + ["damaged"]
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            spec = row.job.asked
            wanted = [_class(row.wanted.get(axis.name), axis.classes) for axis in axes]
            scores = row.scores or {}
            seen = [_class(scores.get(c), names[c]) if c in names else _number(scores.get(c)) for c in columns]
            categories = ", ".join(spec.categories)
            line = [
                row.job.variant,
                spec.id,
                spec.group,
                categories,
                row.job.asked.prompt,
                spec.seed,
                row.job.given.name,
            ]
            writer.writerow([*line, *wanted, *seen, "" if row.scores is not None else "damaged"])


def write_figures_table(variants: Mapping[str, VariantFigures], path: Path) -> None:
    """One line per figure of each variant, overall (empty group) and within groups."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "group", "figure", "value", "low", "high", "images", "unknown"])
        for name, variant in variants.items():
            for group, figures in {"": variant.overall, **variant.groups}.items():
                for figure, one in figures.items():
                    numbers = [_number(n) for n in (one.value, one.low, one.high)]
                    writer.writerow([name, group, str(figure), *numbers, one.count, one.unknown])


def _written(variant: VariantFigures) -> dict[str, Any]:
    def figures(named: Mapping[FigureName, Figure]) -> list[dict[str, Any]]:
        return [
            {"kind": name.kind.name, "axes": name.axes, "group": name.group, **asdict(figure)}
            for name, figure in named.items()
        ]

    groups = {group: figures(named) for group, named in variant.groups.items()}
    return {
        "images": variant.images,
        "damaged": variant.damaged,
        "overall": figures(variant.overall),
        "groups": groups,
    }


def _variant(values: Mapping[str, Any], columns: Mapping[str, Column]) -> VariantFigures:
    def figures(written: Sequence[Mapping[str, Any]]) -> dict[FigureName, Figure]:
        return dict(figure(**one) for one in written)

    def figure(kind: str, axes: Sequence[str], group: str, **numbers: Any) -> tuple[FigureName, Figure]:
        return FigureName(columns[kind], tuple(axes), group), Figure(**numbers)

    groups = {group: figures(named) for group, named in values["groups"].items()}
    return VariantFigures(values["images"], values["damaged"], figures(values["overall"]), groups)


def _column(values: Mapping[str, Any]) -> Column:
    column = Column(**values)
    for about in fields(Column):
        kind = {"str": str, "bool": bool, "int": int}[str(about.type)]
        if not isinstance(getattr(column, about.name), kind):
            raise TypeError(f"the column {column.name!r} has the {about.name} {getattr(column, about.name)!r}")
    return column


def _class(number: float | None, classes: Sequence[str]) -> str:
    return "" if number is None else classes[int(number)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
