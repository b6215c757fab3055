"""What a training run is to do: a TOML file and flags, checked once; every typo is an error with its place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ...respodiff_core.adapter.adapter import SUFFIX
from ...respodiff_core.adapter.concept import Category, check_axis, check_name
from ...respodiff_core.adapter.families import pixels_per_latent
from ...respodiff_core.adapter.transforms import Kind
from ...respodiff_core.learning.learner import Update
from .strict import Strict, as_list, check_tables, checked, expand_user, load_toml, parse_toml

Precision = Literal["auto", "float32", "bfloat16", "float16"]
FAIRNESS_GUIDANCE, SAFETY_GUIDANCE = 4.0, 12.0


class ConceptRecipe(Strict):
    """One concept: what to steer towards (`target`), or away from (`negative`), against which neutral prompts."""

    name: str
    target: str = ""
    neutral: Annotated[list[str], BeforeValidator(as_list)] = Field(default=["a person"], min_length=1)
    negative: str = ""
    category: Category
    axis: str = ""
    synonyms: list[str] = Field(default=[])
    guidance: float = Field(gt=0)
    ram_rate: float = Field(default=1e-2, gt=0)
    sam_rate: float = Field(default=1e-3, ge=0)
    sam_weight: float = Field(default=1.0, gt=0)
    steps: int = Field(default=1200, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        """Fill in the preset's values and what follows from the prompts."""
        if not isinstance(given, Mapping):
            return given
        given = dict(given)
        if preset := given.pop("preset", None):
            given = {**_one_preset(str(preset)), **given}
        safety = not given.get("target") and bool(given.get("negative"))
        given.setdefault("category", "safety" if safety else "fairness")
        given.setdefault("guidance", SAFETY_GUIDANCE if safety else FAIRNESS_GUIDANCE)
        return given

    @model_validator(mode="after")
    def _has_a_direction(self) -> ConceptRecipe:
        check_name(self.name)
        check_axis(self.axis)
        if not self.target and not self.negative:
            raise ValueError("it is empty: give it a target to steer towards, or a negative to steer away from")
        if any(not neutral for neutral in self.neutral):
            raise ValueError("a neutral prompt is empty; describe an ordinary picture, such as 'a person'")
        return self


class ModelRecipe(Strict):
    """How a base model runs, and at which size where that is not its own."""

    precision: Precision = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|(cuda|xpu)(:[0-9]+)?)$")
    width: int | None = Field(default=None, ge=64, multiple_of=8)
    height: int | None = Field(default=None, ge=64, multiple_of=8)
    prediction: Literal["auto", "epsilon", "v"] = "auto"

    def latent_size(self, family: str) -> tuple[int, int] | None:
        """(height, width) of latents where the recipe chooses another size than the base model's own."""
        if self.height is None or self.width is None:
            return None
        pixels = pixels_per_latent(family)
        return self.height // pixels, self.width // pixels

    @model_validator(mode="after")
    def _has_a_size(self) -> ModelRecipe:
        if (self.width is None) != (self.height is None):
            raise ValueError("give width and height together, or neither")
        return self


class TrainingRecipe(ModelRecipe):
    """How to train: the same for all concepts of a run. A `steps` here stands for the concepts that name none."""

    batch: int = Field(default=4, ge=1)
    pool: int = Field(default=16, ge=1)
    kind: Kind = "constant"
    hidden: int | None = Field(default=None, ge=1)
    update: Update = "sequential"
    rollout: Literal["pool", "reference"] = "pool"
    rollout_guidance: float = 3.0
    schedule_steps: int = Field(default=50, ge=2, le=500)
    seed: int = Field(default=0, ge=0, lt=2**63)
    checkpointing: bool = False

    @model_validator(mode="before")
    @classmethod
    def _pool_for_the_batch(cls, given: Any) -> Any:
        """Unless a pool is given: the multiple of the batch that is nearest to 16."""
        batch = given.get("batch", 4) if isinstance(given, Mapping) else None
        if isinstance(batch, int) and batch > 0:
            return {"pool": batch * max(round(16 / batch), 1), **given}
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingRecipe:
        if self.pool % self.batch:
            raise ValueError(f"the pool ({self.pool}) must be a multiple of the batch ({self.batch})")
        if self.rollout == "reference" and self.update == "joint":
            raise ValueError("the reference rollout keeps the paper's order of updates: use update = 'sequential'")
        return self


class SavingRecipe(Strict):
    """What is kept on the way: a state to resume from every so many steps, and with it the newest `keep` adapters to
    try; `dtype` is the files'."""

    every: int = Field(default=100, ge=1)
    keep: int = Field(default=0, ge=0)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    tensorboard: bool = True


class PreviewRecipe(Strict):
    """Preview pictures every so many steps (0: none): each prompt at each strength, from one seed."""

    every: int = Field(default=0, ge=0)
    prompts: Annotated[list[str], BeforeValidator(as_list)] = Field(default=["a photo of a doctor"], min_length=1)
    strengths: list[float] = Field(default=[0.0, 0.5, 1.0], min_length=1)
    guidance: float = 7.5
    schedule_steps: int = Field(default=20, ge=2, le=500)
    seed: int = Field(default=0, ge=0, lt=2**63)


class AboutRecipe(Strict):
    """What model managers show of the file (ModelSpec)."""

    title: str = ""
    author: str = ""
    license: str = ""
    description: str = ""


class Recipe(Strict):
    """A whole run: base model, output file, concepts one after another into that file."""

    base: str = Field(min_length=1)
    output: Path
    concepts: list[ConceptRecipe] = Field(min_length=1)
    training: TrainingRecipe = TrainingRecipe()
    saving: SavingRecipe = SavingRecipe()
    previews: PreviewRecipe = PreviewRecipe()
    about: AboutRecipe = AboutRecipe()

    @model_validator(mode="after")
    def _makes_one_file(self) -> Recipe:
        if self.output.suffix != SUFFIX:
            raise ValueError(f"output: must end in {SUFFIX}, not {self.output.name!r}")
        names = [concept.name for concept in self.concepts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"concepts: {', '.join(twice)} comes twice; a file holds a name once")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Recipe:
        """Check plain values, as TOML or flags give them. Raises RecipeError naming every wrong place."""
        check_tables(values, [name for name in _SECTIONS if name != "concepts"], ["concepts"])
        values = dict(values)
        concepts = [one for concept in values.get("concepts", ()) for one in expand_group(concept)]
        training = dict(values.get("training", {}))
        if "steps" in training:
            steps = training.pop("steps")
            concepts = [{"steps": steps, **concept} for concept in concepts]
        if "training" in values:
            values["training"] = training
        if "concepts" in values:
            values["concepts"] = concepts
        return checked(cls, values, _SECTIONS)

    _expand_user = field_validator("output")(expand_user)

    def resolved(self) -> dict[str, Any]:
        """Every value, defaults and presets filled in, as plain data."""
        return self.model_dump(mode="json")


_SECTIONS: dict[str, type[Strict]] = {
    "concepts": ConceptRecipe,
    "training": TrainingRecipe,
    "saving": SavingRecipe,
    "previews": PreviewRecipe,
    "about": AboutRecipe,
}


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a recipe file; a relative base or output is meant from the file's folder. Raises RecipeError."""
    values = load_toml(path)
    check_tables(values, [name for name in _SECTIONS if name != "concepts"], ["concepts"])
    for key in ("base", "output"):
        if isinstance(values.get(key), str):
            beside = path.parent / Path(values[key]).expanduser()
            if key == "output" or beside.exists():
                values[key] = str(beside)
    return values


def presets() -> dict[str, dict[str, Any]]:
    """The built-in concepts, by `group/name`."""
    groups = parse_toml(files(__package__).joinpath("presets.toml").read_text("utf-8")).items()
    return {f"{group}/{name}": {"name": name, **values} for group, named in groups for name, values in named.items()}


def _one_preset(name: str) -> dict[str, Any]:
    known = presets()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"there is no preset {name!r}; {meant}known are: {', '.join(known)}")
    return known[name]


def expand_group(concept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`preset = "gender"` stands for each of its concepts."""
    preset = concept.get("preset")
    members = [name for name in presets() if name.startswith(f"{preset}/")]
    return [{**concept, "preset": name} for name in members] or [concept]
