"""`respodiff ablate`: what each part of the methods contributes, over several seeds (paper, section 5.3, appendix)."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from scipy.stats import t as student

from ...respodiff_core.atomic import replacing, write_text
from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.learning.contrast_presets import contrast_values
from ...respodiff_core.learning.presets import PRESETS
from ..evaluation.figures import DEVIATION
from ..evaluation.presentation import main_figures, mean_of_seeds, title_of
from ..evaluation.results import Results
from ..evaluation.run import evaluate, rehearse
from ..recipes.contrast_recipe import ContrastRecipe, assemble_contrast
from ..recipes.evaluation_recipe import UNSTEERED, EvalRecipe, FairnessProtocol
from ..recipes.strict import Strict, checked, load_toml, parse_toml
from ..recipes.training_recipe import Recipe, expand_group
from ..support import charts
from ..support.table import Table
from ..worlds.column import FigureName
from ..worlds.lookup import world_of
from .trained_adapters import contrasted, trained, trained_at_layers

CONFIDENCE = 0.95


class AblationVariant(Strict):
    """How a variant steers: by RespoDiff's concepts, by contrast concepts, by both, or not at all.

    RespoDiff's differ from the default by factors of the presets' learning rates and by settings of `[training]`.
    Contrast concepts are used if `contrast` is given, with settings that differ from the preset of the axis.
    With `both` they act together with RespoDiff's. With `layers` RespoDiff's objective is trained at the
    cross-attention layers, on a grid of so many places. With `named` the group is named in the prompt instead.
    """

    ram_rate: float = Field(default=1.0, gt=0)
    sam_rate: float = Field(default=1.0, ge=0)
    training: dict[str, Any] = Field(default={})
    contrast: dict[str, Any] | None = None
    both: bool = False
    layers: int = Field(default=0, ge=0, le=64)
    named: bool = False
    strength: float = 1.0

    @model_validator(mode="after")
    def _fits_together(self) -> AblationVariant:
        if self.both and self.contrast is None:
            raise ValueError("both: give the settings of the contrast concepts as well (contrast = {})")
        if sum([self.named, bool(self.layers), self.contrast is not None]) > 1:
            raise ValueError("named, layers and contrast exclude each other: use one in a variant")
        return self

    @property
    def is_trained(self) -> bool:
        return self.both or not (self.named or self.contrast is not None)


@dataclass(frozen=True)
class Ablation:
    """An ablation: `presets` are concepts of one axis (such as gender), `images` is the number for each profession."""

    base: str
    output: Path
    presets: tuple[str, ...]
    variants: Mapping[str, AblationVariant]
    seeds: int = 3
    images: int | None = None
    steps: int | None = None
    training: Mapping[str, Any] | None = None
    sampling: Mapping[str, Any] | None = None
    scoring: Mapping[str, Any] | None = None
    protocol: FairnessProtocol = "winobias"

    @property
    def axis(self) -> str:
        """The axis of the presets."""
        return str(PRESETS[self.presets[0]]["axis"])

    def made(self, name: str, seed: int) -> list[Path]:
        """The adapters of a variant with this seed, which are trained or computed if they do not exist."""
        variant = self.variants[name]
        if variant.layers:
            return [trained_at_layers(self.recipe(name, seed), variant.layers)]
        adapters = [trained(self.recipe(name, seed))] if variant.is_trained else []
        if variant.named or variant.contrast is not None:
            adapters.append(contrasted(self.contrast(name, seed)))
        return adapters

    def contrast(self, name: str, seed: int) -> ContrastRecipe:
        """The recipe of a variant's contrast concepts with this seed."""
        world = world_of(self.base)
        presets = [world.contrast_preset(subject) for subject in ("gender", "race")]
        preset = next((one for one in presets if contrast_values(one)["axis"] == self.axis), self.axis)
        settings = {"seed": seed * 1000, **(self.variants[name].contrast or {})}
        output = self.output / "adapters" / f"{name}, contrast, seed {seed}.safetensors"
        return assemble_contrast(
            None,
            top={"base": self.base, "output": str(output)},
            preset=preset,
            sections={"contrast": settings, "model": dict(self.training or {})},
        )

    def recipe(self, name: str, seed: int) -> Recipe:
        """The recipe for training a variant with this seed."""
        variant = self.variants[name]
        concepts = []
        for preset in self.presets:
            one = PRESETS[preset]
            rates = {key: one[key] * getattr(variant, key) for key in ("ram_rate", "sam_rate")}
            concepts.append({"preset": preset, **rates, **({"steps": self.steps} if self.steps else {})})
        return Recipe.of(
            {
                "base": self.base,
                "output": str(self.output / "adapters" / f"{name}, seed {seed}.safetensors"),
                "concepts": concepts,
                "training": {"seed": seed, **(self.training or {}), **variant.training},
                "saving": {"tensorboard": False},
            }
        )

    def evaluation(self, seed: int, adapters: Mapping[str, Sequence[Path]]) -> EvalRecipe:
        """The evaluation of all variants of a seed, and unsteered, in one run with the same prompts and seeds."""
        each = world_of(self.base).ablation_images
        variants: list[dict[str, Any]] = [{"name": UNSTEERED}]
        for name, paths in adapters.items():
            how = {"strength": self.variants[name].strength, "named": self.variants[name].named}
            variants.append({"name": name, "adapters": list(map(str, paths)), **how})
        return EvalRecipe.of(
            {
                "protocol": self.protocol,
                "base": self.base,
                "output": str(self.output / f"seed {seed}"),
                "variants": variants,
                "images": self.images or (each and each * len(self.presets)),
                "seed": seed * 1_000_003,  # far apart, so that no two seeds share an image seed
                "sampling": dict(self.sampling or {}),
                "scoring": dict(self.scoring or {}),
            }
        )


@dataclass(frozen=True)
class Mean:
    """A figure over seeds: mean, half the width of Student's interval (NaN for one seed), and each seed's value."""

    value: float
    half: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        count = len(values)
        if count < 2:
            return cls(values[0], math.nan, tuple(values))
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, count - 1))
        return cls(statistics.mean(values), quantile * statistics.stdev(values) / math.sqrt(count), tuple(values))


Means = dict[str, dict[FigureName, Mean]]
"""Variant -> figure -> its mean."""


def chosen_presets(base: str, names: Sequence[str]) -> tuple[str, ...]:
    """The presets with these names, groups expanded; without names the world's for gender. Raises RespoDiffError."""
    names = names or world_of(base).presets("gender")
    chosen = tuple(str(one["preset"]) for name in names for one in expand_group({"preset": name}))
    known = PRESETS
    for name in chosen:
        if name not in known:
            raise RespoDiffError(f"There is no preset {name!r}; there are: {', '.join(known)}.")
    if len({known[name].get("axis") for name in chosen}) > 1:
        raise RespoDiffError("An ablation is about the groups of one axis: name presets of one axis, such as gender.")
    return chosen


def read_variants(path: Path | None, names: Sequence[str]) -> dict[str, AblationVariant]:
    """The variants of a TOML file, or else the built-in ones; only those in `names`, if any. Raises RespoDiffError."""
    built_in = files(__package__).joinpath("ablation.toml").read_text("utf-8")
    values = load_toml(path) if path else parse_toml(built_in)
    if unknown := [name for name in names if name not in values]:
        raise RespoDiffError(f"There is no variant {', '.join(map(repr, unknown))}; there are: {', '.join(values)}.")
    return {name: checked(AblationVariant, values[name], {}) for name in (names or values)}


def ablate(ablation: Ablation) -> Means | None:
    """Make every variant with every seed and evaluate all; returns None in all processes but the main one.

    Finished trainings and evaluations are reused. Writes ablation.csv, .md and .svg. Raises as `train` and `evaluate`.
    """
    rehearse(
        ablation.evaluation(0, {name: [Path("adapter.safetensors")] for name in ablation.variants}),
        [ablation.axis],
        len(ablation.presets),
    )
    for name, variant in ablation.variants.items():  # mistakes in all recipes, before anything is trained
        ablation.recipe(name, 0)
        if variant.contrast is not None:
            ablation.contrast(name, 0)
    tables: list[Results] = []
    for seed in range(ablation.seeds):
        adapters = {name: ablation.made(name, seed) for name in ablation.variants}
        results = evaluate(ablation.evaluation(seed, adapters))
        tables += [results] if results else []
    if not tables:
        return None
    means = means_of(tables)
    _write_csv(means, ablation.output / "ablation.csv")
    write_text(ablation.output / "ablation.md", shown(means).in_markdown() + "\n")
    write_text(ablation.output / "ablation.svg", charts.standalone(plot(means).svg()))
    return means


def means_of(results: Sequence[Results]) -> Means:
    """Means over seeds of the figures that every seed has."""
    means: Means = {}
    for name in results[0].variants:
        overall = [one.variants[name].overall for one in results]
        common = [name for name in overall[0] if not name.group and all(name in one for one in overall)]
        means[name] = {figure: Mean.of([one[figure].value for one in overall]) for figure in common}
    return means


def _shown_figures(means: Means) -> list[FigureName]:
    """The main figures without those of safety, which this ablation does not measure."""
    return [name for name in main_figures(means.values()) if not name.kind.unsafe]


def shown(means: Means) -> Table:
    """One row per variant: means with their 95 % intervals over seeds."""
    columns = _shown_figures(means)
    rows = [[name, *(_cell(figures.get(column), column) for column in columns)] for name, figures in means.items()]
    return Table(["", *map(title_of, columns)], rows)


def plot(means: Means) -> charts.Chart:
    """Fidelity to the prompt over deviation ratio, one point per seed; another figure if none measures fidelity."""
    columns = _shown_figures(means)
    x = next(name for name in columns if name.kind == DEVIATION)
    fidelity = [name for name in columns if name.kind.fidelity]
    y = [*fidelity, *(name for name in columns if name.kind.over_strength and not name.axes), x][0]
    points = {
        name: list(zip(figures[x].values, figures[y].values, strict=True))
        for name, figures in means.items()
        if x in figures and y in figures
    }
    return charts.scatter(points, title_of(x), title_of(y))


def _cell(mean: Mean | None, name: FigureName) -> str:
    return "" if mean is None else mean_of_seeds(mean.value, mean.half, name.kind)


def _write_csv(means: Means, path: Path) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        seeds = len(next(iter(next(iter(means.values())).values())).values)
        writer.writerow(["variant", "figure", "mean", "half of the interval", *(f"seed {n}" for n in range(seeds))])
        for name, figures in means.items():
            for figure, mean in figures.items():
                numbers = [f"{one:.6g}" for one in (mean.value, mean.half, *mean.values)]
                writer.writerow([name, str(figure), *numbers])
