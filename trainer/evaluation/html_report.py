"""The report: a self-contained HTML page of one evaluation, or several side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from PIL import Image

from ...respodiff_core.atomic import write_text
from ...respodiff_core.errors import RespoDiffError, reason_of
from ..recipes.evaluation_recipe import AT_GUIDANCE
from ..support import charts
from ..worlds.column import FigureName
from .figures import ACCURACY, DEVIATION, Figure, VariantFigures
from .image_folder import DamagedImage, ImageFolder
from .presentation import Cell, cell_of, main_figures, meaning_of, title_of
from .results import Results

_TILE = 128  # pixels
_MOST_BARS = 4  # variants in one chart


class Entry(NamedTuple):
    """One variant of one run, with the folder of its images."""

    label: str
    variant: str
    figures: VariantFigures
    run: Results
    images: ImageFolder


@dataclass(frozen=True)
class Tile:
    """An image embedded in the page: `source` is a data URL."""

    source: str
    title: str


def write_report(runs: Mapping[str, tuple[Results, ImageFolder]], path: Path) -> None:
    """Write a page about these runs, by name; with several, their variants are shown side by side.

    Raises RespoDiffError if a run's figures lack something that the page shows.
    """
    entries = entries_of(runs)
    main = main_figures(entry.figures.overall for entry in entries)
    template = _environment().get_template("report.html")
    try:
        page = template.render(
            runs={name: results for name, (results, _) in runs.items()},
            entries=entries,
            head=[(title_of(name), meaning_of(name)) for name in main],
            table=[[cell_of(entry.figures.overall.get(name), name.kind) for name in main] for entry in entries],
            unknown=list(_unknown(entries)),
            charts=[chart.svg() for chart in deviation_bars(entries)],
            curves=[chart.svg() for results, _ in runs.values() for chart in curves_of(results)],
            grids=_grids(entries),
            labels=[entry.label for entry in entries],
            left_out=[entry.label for entry in entries[_MOST_BARS:]],
            further=_further(entries, main),
            version=version("respodiff"),
        )
    except (UndefinedError, KeyError) as error:
        raise RespoDiffError(
            f"The figures of {', '.join(runs)} lack something that a report shows ({reason_of(error)}): they were not "
            "written by this version of `respodiff eval`. Run the evaluation again."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)


def entries_of(runs: Mapping[str, tuple[Results, ImageFolder]]) -> list[Entry]:
    """Every variant of every run."""
    return [
        Entry(f"{name}: {variant}" if len(runs) > 1 else variant, variant, figures, results, images)
        for name, (results, images) in runs.items()
        for variant, figures in results.variants.items()
    ]


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("respodiff.trainer.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _unknown(entries: Sequence[Entry]) -> Iterable[tuple[str, str, int]]:
    """The entry, the title of the deviation ratio, and the number of images that could not be labelled."""
    for entry in entries:
        for name, one in entry.figures.overall.items():
            if one.unknown and name.kind == DEVIATION:
                yield entry.label, title_of(name), one.unknown


def _further(entries: Sequence[Entry], main: Sequence[FigureName]) -> list[tuple[str, list[Cell]]]:
    """The other figures, with one cell per entry."""
    names = dict.fromkeys(name for entry in entries for name in entry.figures.overall)
    others = [name for name in names if name not in main]
    return [
        (title_of(name), [cell_of(entry.figures.overall.get(name), name.kind) for entry in entries]) for name in others
    ]


def deviation_bars(entries: Sequence[Entry]) -> Iterable[charts.Chart]:
    """The deviation ratio within each group, for each axis."""
    shown = entries[:_MOST_BARS]
    groups = list(dict.fromkeys(group for entry in shown for group in entry.figures.groups))
    names = dict.fromkeys(name for entry in shown for name in entry.figures.overall if name.kind == DEVIATION)
    for name in names:
        if groups:
            series = {
                entry.label: [_point(entry.figures.groups.get(group, {}).get(name)) for group in groups]
                for entry in shown
            }
            yield charts.bars(groups, series, title_of(name))


def curves_of(results: Results) -> Iterable[charts.Chart]:
    """Figures over strength and over the guidance scale, where a run has the same adapters at several of them."""
    facts_of = results.manifest["variants"]
    over_strength: dict[str, dict[float, str]] = {}
    over_guidance: dict[str, dict[float, str]] = {}
    for name, facts in facts_of.items():
        # Variants that differ only by one common factor of all strengths.
        ratios = {one: round(value / (facts["strength"] or 1), 6) for one, value in facts["strengths"].items()}
        how = (
            sorted(facts["adapters"].items()),
            facts["groups"],
            sorted(ratios.items()),
            facts["named"],
            facts["gate"],
        )
        if facts["adapters"] and not facts["named"]:
            over_strength.setdefault(repr((how, facts["guidance"])), {})[facts["strength"]] = name
        over_guidance.setdefault(repr((how, facts["strength"])), {})[facts["guidance"]] = name
    for strengths in over_strength.values():
        if len(strengths) > 1:
            scale = facts_of[next(iter(strengths.values()))]["guidance"]
            unsteered = next(
                (name for name, facts in facts_of.items() if not facts["adapters"] and facts["guidance"] == scale), None
            )
            yield from _strength_curves(
                results, ({0.0: unsteered} if unsteered else {}) | dict(sorted(strengths.items()))
            )
    several = [dict(sorted(scales.items())) for scales in over_guidance.values() if len(scales) > 1]
    if several:
        yield from _guidance_curves(results, several)


def _guidance_curves(results: Results, variants: Sequence[Mapping[float, str]]) -> Iterable[charts.Chart]:
    """Each figure over the guidance scale, one line for each of the variants, which are given by scale."""
    scales = sorted({scale for one in variants for scale in one})
    names = main_figures(results.variants[name].overall for one in variants for name in one.values())
    for figure in names:
        if not figure.kind.over_strength and not figure.kind.fidelity:
            continue
        series = {
            ", ".join(dict.fromkeys(name.partition(AT_GUIDANCE)[0] for name in one.values())): [
                _point(results.variants[one[scale]].overall.get(figure)) if scale in one else None for scale in scales
            ]
            for one in variants
        }
        series = {name: points for name, points in series.items() if any(points)}
        limit = 1.0 if figure.kind.is_share or figure.kind == DEVIATION else None
        if series:
            yield charts.curves(scales, series, "guidance scale (CFG)", title_of(figure), limit)


def _strength_curves(results: Results, strengths: Mapping[float, str]) -> Iterable[charts.Chart]:
    variants = [results.variants[name] for name in strengths.values()]
    for axis in results.axes:
        series = {
            f"shows {name}": [_point(one.overall.get(ACCURACY.of(axis.name, group=name))) for one in variants]
            for name in axis.classes
        }
        series[DEVIATION.title] = [_point(one.overall.get(DEVIATION.of(axis.name))) for one in variants]
        if any(point for points in series.values() for point in points):
            yield charts.curves(list(strengths), series, "strength", axis.name, limit=1.0)
    for name in main_figures(one.overall for one in variants):
        points = [_point(one.overall.get(name)) for one in variants]
        if name.kind.over_strength and not name.axes and any(points):
            limit = 1.0 if name.kind.is_share else None
            yield charts.curves(list(strengths), {title_of(name): points}, "strength", title_of(name), limit)


def _point(figure: Figure | None) -> charts.Point | None:
    return charts.Point(figure.value, figure.low, figure.high) if figure and figure.count else None


class Grid(NamedTuple):
    """Images of the same specs: one column per entry, rows by group."""

    labels: list[str]
    rows: list[tuple[str, list[list[Tile]]]]


def _grids(entries: Sequence[Entry]) -> list[Grid]:
    """One grid for all entries with the same image specs; rows without images are left out."""
    by_specs: dict[str, list[Entry]] = {}
    for entry in entries:
        by_specs.setdefault(entry.run.manifest["asked"]["sha256"], []).append(entry)
    grids = []
    for alike in by_specs.values():
        rows = []
        for name, ids in alike[0].run.shown.items():
            cells = [[tile for id_ in ids if (tile := _tile(entry, id_))] for entry in alike]
            if any(cells):
                rows.append((name, cells))
        if rows:
            grids.append(Grid([entry.label for entry in alike], rows))
    return grids


def _tile(entry: Entry, id_: str) -> Tile | None:
    try:
        image = entry.images.read(entry.variant, id_)
    except DamagedImage:
        return None
    image.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return Tile(f"data:image/webp;base64,{data}", f"{entry.label}, {id_}")
