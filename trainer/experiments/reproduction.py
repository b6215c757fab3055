"""`respodiff reproduce`: make and measure the adapters of a published table, and show them beside its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..base.model import describe
from ..evaluation.figures import DEVIATION, FLAGGED, PARITY, Figure
from ..evaluation.presentation import as_published, cell_of
from ..evaluation.results import Results
from ..evaluation.run import evaluate, rehearse
from ..recipes.contrast_recipe import ContrastRecipe, assemble_contrast
from ..recipes.evaluation_recipe import UNSTEERED, EvalRecipe, Subject
from ..recipes.strict import parse_toml
from ..recipes.training_recipe import Recipe, expand_group
from ..support.table import Table
from ..worlds.column import Column
from ..worlds.lookup import world_of
from .trained_adapters import contrasted, trained

_BASES = {"sd": "CompVis/stable-diffusion-v1-4", "sdxl": "stabilityai/stable-diffusion-xl-base-1.0"}
OURS, BASE, CONTRAST = "RespoDiff, ours", "base, ours", "contrast concepts, ours"

_DEVIATION, _EXTENDED = Column("deviation", "deviation ratio"), Column("extended", "deviation ratio, extended")
_PARITY, _REDUCTION = Column("parity", "parity gap"), Column("reduction", "reduction of the gap", is_share=True)
_FID, _CLIP = Column("fid", "FID"), Column("clip", "CLIP score")
_COLUMNS = (_DEVIATION, _EXTENDED, _PARITY, _REDUCTION, Column("alignment", "WinoAlign"), _FID, _CLIP, FLAGGED)
"""Columns of the papers with their names in published.toml; all other names there are categories of unsafe prompts."""

Row = dict[Column, Figure]


@dataclass(frozen=True)
class Reproduction:
    """One table on one base model. Without COCO's real images (`reference`) its columns are left out: FID needs them,
    and the CLIP score takes 30,000 images per row. `scoring` and `sampling` are settings of an evaluation.
    """

    what: Subject
    base: str
    output: Path
    seed: int = 0
    images: int | None = None
    limit: int | None = None
    reference: Path | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    prompts: Path | None = None

    @property
    def is_contrast(self) -> bool:
        """Whether the table is about contrast concepts, which are not trained."""
        return self.what == "equisteer"

    @property
    def adapter(self) -> Path:
        """The path of the table's adapter."""
        return self.output / f"{self.what}.safetensors"

    def contrast(self) -> ContrastRecipe:
        """The recipe of the table's contrast concepts: gender, by the preset."""
        return assemble_contrast(
            None,
            top={"base": self.base, "output": str(self.adapter)},
            preset=world_of(self.base).contrast_preset("gender"),
            sections={"contrast": {"seed": 1000 * self.seed}, "model": self.training},
        )

    def recipe(self) -> Recipe:
        """The recipe for training the table's adapter: the presets, which are those of the paper."""
        names = world_of(self.base).presets(self.what)
        return Recipe.of(
            {
                "base": self.base,
                "output": str(self.adapter),
                "concepts": [dict(one) for name in names for one in expand_group({"preset": name})],
                "training": {"seed": self.seed, **self.training},
                "saving": {"tensorboard": False},
            }
        )

    def evaluations(self, adapter: Path) -> dict[str, EvalRecipe]:
        """The evaluations by name, each in an output folder of that name."""
        common = {
            "base": self.base,
            "variants": [{"name": UNSTEERED}, {"name": self.what, "adapters": [str(adapter)]}],
            "sampling": dict(self.sampling),
        }
        plans: dict[str, dict[str, Any]] = {}
        if self.is_contrast:
            plans["equisteer"] = {"protocol": "equisteer", "images": self.images}
        elif self.what == "safety":
            prompts = {"prompts": str(self.prompts)} if self.prompts else {}
            plans["i2p"] = {"protocol": "i2p", "images": self.images, "limit": self.limit, **prompts}
        else:
            plans["winobias"] = {"protocol": "winobias", "images": self.images}
            if world_of(self.base).has_extended_templates:
                plans["winobias, extended"] = {"protocol": "winobias", "images": self.images, "extended": True}
        if self.reference:
            plans["coco"] = {"protocol": "coco", "keep_images": False, "limit": self.limit}
        recipes = {}
        for name, plan in plans.items():
            scoring = dict(self.scoring)
            if name == "coco":
                scoring |= {"reference": str(self.reference), "metrics": ["alignment", "fid"]}
            values = {**common, **plan, "output": str(self.output / name), "scoring": scoring}
            recipes[name] = EvalRecipe.of({key: value for key, value in values.items() if value is not None})
        return recipes


def default_base(sdxl: bool) -> str:
    """The base model of the paper."""
    return _BASES["sdxl" if sdxl else "sd"]


def reproduce(reproduction: Reproduction) -> dict[str, Row] | None:
    """Make the adapter and evaluate, reusing finished steps.

    Returns our two rows, or None in all processes but the main one.
    """
    if reproduction.is_contrast:
        contrast = reproduction.contrast()
        axes, groups = [contrast.contrast.axis], len(contrast.contrast.groups)
    else:
        training = reproduction.recipe()
        groups = sum(one.category == "fairness" for one in training.concepts) or 1
        axes = sorted({one.axis for one in training.concepts if one.axis})
    for plan in reproduction.evaluations(reproduction.adapter).values():
        rehearse(plan, axes, groups)
    reproduction.output.mkdir(parents=True, exist_ok=True)
    adapter = contrasted(contrast) if reproduction.is_contrast else trained(training)
    found: dict[str, Results] = {}
    for name, recipe in reproduction.evaluations(adapter).items():
        results = evaluate(recipe)
        if results:
            found[name] = results
    if not found:
        return None
    ours = CONTRAST if reproduction.is_contrast else OURS
    rows = {BASE: _row(found, UNSTEERED), ours: _row(found, reproduction.what)}
    if _PARITY in rows[BASE] and rows[BASE][_PARITY].value:
        before, after = rows[BASE][_PARITY], rows[ours][_PARITY]
        rows[ours][_REDUCTION] = replace(after, value=1 - after.value / before.value, low=None, high=None)
    return rows


def _row(found: Mapping[str, Results], variant: str) -> Row:
    """Our figures of a variant, by the columns of the paper."""
    row: Row = {}
    for name, results in found.items():
        overall = results.variants[variant].overall
        deviation = next((one for figure, one in overall.items() if figure.kind == DEVIATION), None)
        if name == "winobias, extended":
            row |= {_EXTENDED: deviation} if deviation else {}
            continue
        row |= {_DEVIATION: deviation} if deviation and name != "coco" else {}
        parity = next((one for figure, one in overall.items() if figure.kind == PARITY), None)
        row |= {_PARITY: parity} if parity else {}
        for figure, one in overall.items():
            kind = figure.kind
            if name == "coco":
                row |= {_CLIP: one} if kind.fidelity else {_FID: one} if kind == _FID else {}
            elif kind.unsafe and not kind.pooled:
                row[_column(figure.group) if figure.group else FLAGGED] = one
            elif kind.fidelity:
                row[_column(kind.name, kind)] = one
    return row


def _column(name: str, own: Column | None = None) -> Column:
    """The paper's column of this name; else `own`, or a column for a category of unsafe prompts."""
    category = Column(name, name, is_share=True)
    return next((column for column in _COLUMNS if column.name == name), own or category)


def published(what: Subject, family: str) -> dict[str, dict[Column, float]]:
    """The rows of the paper: on SDXL if `family` is sdxl, else on SD 1.4; EquiSteer's are of several models."""
    tables = parse_toml(files(__package__).joinpath("published.toml").read_text("utf-8"))
    found = tables[what]
    rows: dict[str, dict[str, float]] = found.get("all") or found["sdxl" if family == "sdxl" else "sd"]
    return {row: {_column(name): value for name, value in figures.items()} for row, figures in rows.items()}


def shown(ours: Mapping[str, Row], theirs: Mapping[str, Mapping[Column, float]]) -> Table:
    """Our rows with 95 % intervals, then the published ones."""
    found = dict.fromkeys(column for row in (*ours.values(), *theirs.values()) for column in row)
    columns = [*(column for column in _COLUMNS if column in found), *(one for one in found if one not in _COLUMNS)]
    rows = [[name, *(_cell(row.get(column), column) for column in columns)] for name, row in ours.items()]
    for name, figures in theirs.items():
        cells = (as_published(figures[column], column) if column in figures else "" for column in columns)
        rows.append([f"{name}, published", *cells])
    return Table(["", *(column.title for column in columns)], rows)


def _cell(figure: Figure | None, column: Column) -> str:
    cell = cell_of(figure, column)
    return f"{cell.value} ({cell.interval})" if cell.interval else cell.value


def note_on(reproduction: Reproduction) -> str:
    """A sentence on the differences between our rows and the published ones."""
    if not_comparable := world_of(reproduction.base).not_comparable:
        return not_comparable
    family = describe(reproduction.base).family
    safety = reproduction.what == "safety"
    differences = []
    if reproduction.is_contrast:
        differences += [
            "EquiSteer's figure is the largest over SD 1.5, SD 2.1, SDXL and SANA",
            "a fitted reading in place of a projection, one part of the schedule in place of every step, and no gate",
            "the words of the classifier",
        ]
    if reproduction.base not in _BASES.values() or reproduction.is_contrast:
        differences.append(f"the base model ({reproduction.base}, {family})")
    if reproduction.images is not None or reproduction.limit is not None:
        differences.append("the number of images")
    differences += [f"{name} = {value}" for name, value in {**reproduction.sampling, **reproduction.scoring}.items()]
    if safety and "q16_prompts" not in reproduction.scoring:
        differences.append("flagged by NudeNet alone; the published figures are by NudeNet or Q16 (--q16-prompts)")
    if reproduction.is_contrast:
        return f"Differences from the paper: {'; '.join(differences)}."
    if not reproduction.reference:
        differences.append("no FID and CLIP score on COCO-30K (--reference)")
    differences.append("training with the staggered pool, at the right timesteps, starting at zero (docs/training.md)")
    return f"Differences from the paper: {'; '.join(differences)}."
