"""The evaluation section of a model card: figures with intervals, plots, and images on request."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.figures import DEVIATION
from ..evaluation.html_report import curves_of, deviation_bars, entries_of
from ..evaluation.image_folder import DamagedImage, ImageFolder
from ..evaluation.presentation import cell_of, main_figures, meaning_of, title_of
from ..evaluation.results import Results
from ..support.charts import Chart
from ..support.contact_sheet import draw
from ..support.table import Table
from ..worlds.lookup import world_of
from .hub import SharingError

FOLDER = "card"
"""Folder of the card's images in the repository."""
_NOT_TO_BE_SHOWN = ("i2p",)  # its prompts are unsafe
_ROWS, _EACH, _TILE = 6, 3, 128


@dataclass(frozen=True)
class CardImage:
    """An image of the card: its path in the repository, its caption, and the content of the PNG file."""

    name: str
    title: str
    content: bytes


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the card. `facts` are sentences."""

    title: str
    facts: tuple[str, ...]
    figures: Table
    images: tuple[CardImage, ...]


def evaluation_of(folder: Path, sha256: str, number: int, with_images: bool) -> Evaluation:
    """The results in `folder` for the adapter file with this sha256; `number` keeps the names of its images unique on
    the card. `with_images` adds sample images without and with the adapter.

    Raises RespoDiffError if there is no evaluation, if it measured only other files, or if its images cannot be read.
    """
    results = _about(Results.read(folder), sha256, folder)
    entries = entries_of({"": (results, ImageFolder(folder / "images"))})
    charts = [*curves_of(results), *deviation_bars(entries)]
    images = [_of_chart(chart, f"{FOLDER}/{number}-{index}.png") for index, chart in enumerate(charts, 1)]
    if with_images and results.manifest["protocol"] not in _NOT_TO_BE_SHOWN:
        images.insert(0, _sheet(results, folder, f"{FOLDER}/{number}-images.png"))
    return Evaluation(_title(results), tuple(_facts(results)), _figures(results), tuple(images))


def _about(results: Results, sha256: str, folder: Path) -> Results:
    """The results of the variants that use this file and of the unsteered one."""
    of = results.manifest["variants"]
    steered = [name for name in results.variants if sha256 in of[name]["adapters"].values()]
    if not steered:
        raise SharingError(
            f"The evaluation in {folder} did not measure this file: none of its adapters has sha256 {sha256}. "
            "Run the evaluation on the file that you publish."
        )
    names = [name for name in results.variants if name in steered or not of[name]["adapters"]]
    manifest = {**results.manifest, "variants": {name: of[name] for name in names}}
    return replace(results, manifest=manifest, variants={name: results.variants[name] for name in names})


def _title(results: Results) -> str:
    base = results.manifest["base"]
    return world_of(base["family"]).title(results.manifest["protocol"], base["name"])


def _facts(results: Results) -> Iterable[str]:
    manifest, sampling = results.manifest, results.manifest["sampling"]
    scales = sorted({facts.get("guidance", sampling["guidance"]) for facts in manifest["variants"].values()})
    yield (
        f"{manifest['asked']['images']} images per variant, DDIM with {sampling['schedule_steps']} steps, "
        f"guidance scale {', '.join(f'{scale:g}' for scale in scales)}, first seed {manifest['seed']}, "
        f"{sampling['precision']}; base model sha256 {manifest['base']['sha256']}."
    )
    steered = {name: facts for name, facts in manifest["variants"].items() if facts["adapters"]}
    yield f"Strengths: {'; '.join(_strength(name, facts) for name, facts in steered.items())}."
    yield f"Scored by: {'; '.join(f'{name} ({judge})' for name, judge in results.judges.items())}."
    for name, variant in results.variants.items():
        if variant.damaged:
            yield f"{name}: {variant.damaged} images could not be read and are not counted in any figure."
        for figure, one in variant.overall.items():
            if one.unknown and figure.kind == DEVIATION:
                yield (
                    f"{name}, {title_of(figure)}: {one.unknown} images could not be labelled. They are left out here, "
                    "and count as wrong in the steering accuracy."
                )
    yield (
        f"The {100 * results.confidence:g} % bootstrap interval over images is in brackets. It does not cover the "
        "choice of prompts or errors of the scorers."
    )


def _strength(name: str, facts: Mapping[str, Any]) -> str:
    others = len(facts["adapters"]) - 1
    combined = f", together with {others} other adapter{'s' if others > 1 else ''}" if others else ""
    return f"{name} ({facts['strength']:g}{combined})"


def _figures(results: Results) -> Table:
    rows = []
    for figure in main_figures(variant.overall for variant in results.variants.values()):
        cells = [cell_of(variant.overall.get(figure), figure.kind) for variant in results.variants.values()]
        texts = [f"{cell.value} ({cell.interval})" if cell.interval else cell.value for cell in cells]
        rows.append((title_of(figure), *texts, meaning_of(figure)))
    return Table(("figure", *results.variants, "meaning"), tuple(rows))


def _of_chart(chart: Chart, name: str) -> CardImage:
    return CardImage(name, chart.title, chart.png())


def _sheet(results: Results, folder: Path, name: str) -> CardImage:
    """The same prompts and seeds without and with the adapter, at the strength closest to the recommended one."""
    of = results.manifest["variants"]
    usual = results.manifest["sampling"]["guidance"]
    steered = min(
        (one for one in results.variants if of[one]["adapters"]),
        key=lambda one: (of[one]["named"], abs(of[one]["guidance"] - usual), abs(of[one]["strength"] - 1)),
    )
    without = [one for one in results.variants if not of[one]["adapters"]]
    variants = [*(one for one in without if of[one]["guidance"] == of[steered]["guidance"]), steered]
    images = ImageFolder(folder / "images")
    shown = [(group, ids[:_EACH]) for group, ids in list(results.shown.items())[:_ROWS]]
    try:
        rows = [(group, [np.asarray(images.read(one, id_)) for one in variants for id_ in ids]) for group, ids in shown]
    except DamagedImage as error:
        raise SharingError(f"The images of the evaluation in {folder} cannot be shown: {error}.") from None
    columns = [one for one in variants for _ in range(max(len(ids) for _, ids in shown))]
    file = io.BytesIO()
    draw(rows, columns, _TILE).save(file, format="PNG")
    return CardImage(name, f"The same prompts and seeds: {', then '.join(variants)}", file.getvalue())
