"""The report: one HTML page that holds everything, of one evaluation or several side by side."""

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
from ..recipes.evaluation import UNSTEERED
from ..support import charts
from .columns import Cell, cell_of, columns_of, is_share, meaning_of, title_of
from .figures import ACCURACY, DEVIATION, FLAGGED, Figure, SettingFigures
from .image_folder import DamagedPicture, PictureFolder
from .results import Results

_TILE = 128  # pixels
_MOST_BARS = 4  # settings in one chart


class Entry(NamedTuple):
    """One setting of one run, and where its pictures are."""

    label: str
    setting: str
    figures: SettingFigures
    run: Results
    pictures: PictureFolder


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: `source` is a data URL."""

    source: str
    title: str


def write_report(runs: Mapping[str, tuple[Results, PictureFolder]], path: Path) -> None:
    """Write a page of these runs, by name; with several, their settings stand beside each other.

    Raises RespoDiffError where a run's figures do not say what the page shows.
    """
    entries = entries_of(runs)
    columns = columns_of(entry.figures for entry in entries)
    template = _environment().get_template("report.html")
    try:
        page = template.render(
            runs={name: results for name, (results, _) in runs.items()},
            entries=entries,
            columns=columns,
            meanings={column: meaning_of(column) for column in columns},
            table=[[cell_of(entry.figures.overall.get(column), column) for column in columns] for entry in entries],
            charts=[chart.svg() for chart in deviation_bars(entries)],
            curves=[chart.svg() for results, _ in runs.values() for chart in curves_over_strength(results)],
            grids=_grids(entries),
            labels=[entry.label for entry in entries],
            left_out=[entry.label for entry in entries[_MOST_BARS:]],
            further=_further(entries, columns),
            version=version("respodiff"),
        )
    except (UndefinedError, KeyError) as error:
        raise RespoDiffError(
            f"The figures of {', '.join(runs)} do not say all that a report shows ({reason_of(error)}): they are not "
            "as this version of `respodiff eval` writes them. Evaluate again."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)


def entries_of(runs: Mapping[str, tuple[Results, PictureFolder]]) -> list[Entry]:
    """Every setting of every run."""
    return [
        Entry(f"{name}: {setting}" if len(runs) > 1 else setting, setting, figures, results, pictures)
        for name, (results, pictures) in runs.items()
        for setting, figures in results.settings.items()
    ]


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("respodiff.trainer.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _further(entries: Sequence[Entry], columns: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    """The other figures, each with a cell for each entry."""
    names = dict.fromkeys(name for entry in entries for name in entry.figures.overall)
    others = [name for name in names if name not in columns]
    return [(title_of(name), [cell_of(entry.figures.overall.get(name), name) for entry in entries]) for name in others]


def deviation_bars(entries: Sequence[Entry]) -> Iterable[charts.Chart]:
    """The deviation ratio within each group, for each axis."""
    shown = entries[:_MOST_BARS]
    groups = list(dict.fromkeys(group for entry in shown for group in entry.figures.groups))
    names = dict.fromkeys(name for entry in shown for name in entry.figures.overall if name.startswith(DEVIATION))
    for name in names:
        if groups:
            series = {
                entry.label: [_point(entry.figures.groups.get(group, {}).get(name)) for group in groups]
                for entry in shown
            }
            yield charts.bars(groups, series, title_of(name))


def curves_over_strength(results: Results) -> Iterable[charts.Chart]:
    """Figures over strength, where a run has the same adapters at several strengths."""
    by_adapters: dict[str, list[tuple[float, str]]] = {}
    for name, facts in results.manifest["settings"].items():
        if facts["adapters"]:
            # The same but for one strength that scales all of them.
            ratios = {one: round(value / (facts["strength"] or 1), 6) for one, value in facts["strengths"].items()}
            key = repr((sorted(facts["adapters"].items()), facts["groups"], sorted(ratios.items())))
            by_adapters.setdefault(key, []).append((facts["strength"], name))
    for at in by_adapters.values():
        strengths = dict(sorted(at))
        if len(strengths) < 2:
            continue
        if UNSTEERED in results.settings:
            strengths = {0.0: UNSTEERED, **strengths}
        yield from _strength_curves(results, strengths)


def _strength_curves(results: Results, strengths: Mapping[float, str]) -> Iterable[charts.Chart]:
    settings = [results.settings[name] for name in strengths.values()]
    for axis in results.axes:
        series = {
            f"shows {name}": [_point(one.overall.get(f"{ACCURACY}/{axis.name}/{name}")) for one in settings]
            for name in axis.classes
        }
        series[DEVIATION] = [_point(one.overall.get(f"{DEVIATION}/{axis.name}")) for one in settings]
        if any(point for points in series.values() for point in points):
            yield charts.curves(list(strengths), series, "strength", axis.name, limit=1.0)
    for name in ("alignment", "right", "distance", "change", FLAGGED, "hazard"):
        points = [_point(one.overall.get(name)) for one in settings]
        if any(points):
            limit = 1.0 if is_share(name) else None
            yield charts.curves(list(strengths), {name: points}, "strength", title_of(name), limit)


def _point(figure: Figure | None) -> charts.Point | None:
    return charts.Point(figure.value, figure.low, figure.high) if figure and figure.count else None


class Grid(NamedTuple):
    """Pictures of the same things asked: a column for each entry, rows by group."""

    labels: list[str]
    rows: list[tuple[str, list[list[Picture]]]]


def _grids(entries: Sequence[Entry]) -> list[Grid]:
    """A grid for all entries that were asked the same; rows without any picture are left out."""
    by_asked: dict[str, list[Entry]] = {}
    for entry in entries:
        by_asked.setdefault(entry.run.manifest["asked"]["sha256"], []).append(entry)
    grids = []
    for alike in by_asked.values():
        rows = []
        for name, ids in alike[0].run.shown.items():
            cells = [[tile for id_ in ids if (tile := _tile(entry, id_))] for entry in alike]
            if any(cells):
                rows.append((name, cells))
        if rows:
            grids.append(Grid([entry.label for entry in alike], rows))
    return grids


def _tile(entry: Entry, picture: str) -> Picture | None:
    try:
        image = entry.pictures.read(entry.setting, picture)
    except DamagedPicture:
        return None
    image.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{data}", f"{entry.label}, {picture}")
