"""What an evaluation is to do: a TOML file and flags, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ...respodiff_core.learning.settings import setting
from .strict import STRICT, Strict, as_list, checked, expand_user, load_toml
from .training import ModelRecipe

Protocol = Literal["winobias", "i2p", "coco", "prompts"]
Metric = Literal["alignment", "labels", "distance", "change", "nudity", "q16", "fid"]
"""Each is a module of that name in `trainer/evaluation/scorers/`; scorers run in this order."""


class Needs(NamedTuple):
    """What a metric needs: a setting of `[judging]`, and what that must hold; `unsteered` images to compare with; or
    the whole `set` of a variant's images, since it is no number of each.
    """

    setting: str = ""
    holds: str = ""
    unsteered: bool = False
    whole_set: bool = False


_NEEDS: dict[Metric, Needs] = {
    "distance": Needs(unsteered=True),
    "change": Needs(unsteered=True),
    "q16": Needs("q16_prompts", "Q16 needs the file of its two prompt embeddings (prompts.p)"),
    "fid": Needs("reference", "FID needs a folder of real pictures, or their statistics (.npz)", whole_set=True),
}


def needs_of(metric: Metric) -> Needs:
    """What this metric needs."""
    return _NEEDS.get(metric, Needs())


Subject = Literal["gender", "race", "safety"]
"""What the paper's tables are about."""
UNSTEERED = "unsteered"
"""The setting without any adapter, which the others are compared with."""

_RESERVED = {"CON", "PRN", "AUX", "NUL"}  # of Windows
_NAME_FORBIDS = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


class SettingRecipe(Strict):
    """One way of steering that is measured: adapters, and how strongly their concepts act.

    Strengths are in units of each concept's recommended one: `strength` for all, `strengths` for some by name;
    `scales` multiply all strengths of an axis (gender x race). `concepts` chooses some of the files' (empty: all).
    """

    name: str = Field(min_length=1, max_length=64)
    adapters: list[Path] = Field(default=[])
    concepts: list[str] = Field(default=[])
    strength: float = Field(default=1.0, ge=-100, le=100)
    strengths: dict[str, float] = Field(default={})
    scales: dict[str, float] = Field(default={})

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if _NAME_FORBIDS.search(name) or name[0] == "." or name[-1] in ". " or name.upper() in _RESERVED:
            raise ValueError(f"{name!r} cannot be a folder's name")
        return name

    @field_validator("adapters")
    @classmethod
    def _expand_user(cls, adapters: list[Path]) -> list[Path]:
        return [expand_user(path) for path in adapters]


@dataclass(frozen=True, config=STRICT)
class DrawingRecipe(ModelRecipe):
    """How images are sampled: by DDIM, with the paper's steps and guidance scale."""

    schedule_steps: int = setting(50, "DDIM steps.", ge=2, le=500, notes={"flag": "--steps"})
    guidance: float = setting(7.5, "Guidance scale.")
    batch: int = setting(8, "Images sampled at once.", ge=1)


class JudgingRecipe(Strict):
    """Who judges. `metrics` empty: those of the protocol. `axes` are groups to tell apart (gender, race, age, or one's
    own in `classes`: axis -> name -> words); empty: those the adapters steer.
    """

    metrics: Annotated[list[Metric], BeforeValidator(as_list)] = Field(default=[])
    axes: Annotated[list[str], BeforeValidator(as_list)] = Field(default=[])
    classes: dict[str, dict[str, str]] = Field(default={})
    classifier: str = "auto"
    clip: str = "openai/clip-vit-base-patch32"
    dino: str = "facebook/dinov2-base"
    q16_prompts: Path | None = None
    q16_clip: str = "openai/clip-vit-large-patch14"
    reference: Path | None = None
    inception: Path | None = None
    batch: int = Field(default=64, ge=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=1000, ge=100)

    @field_validator("q16_prompts", "reference", "inception")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return path and expand_user(path)


class EvalRecipe(Strict):
    """A whole evaluation: a protocol on a base model in several settings, into one folder.

    `images` are those of each profession (winobias) or prompt; `limit` takes only the first prompts of a data set;
    `prompts` is a file, needed by the protocol of that name and a local copy for i2p and coco. `seed` is the first.
    """

    protocol: Protocol
    base: str = Field(min_length=1)
    output: Path
    prompts: Path | None = None
    settings: list[SettingRecipe] = Field(default=[SettingRecipe(name=UNSTEERED)], min_length=1)
    images: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    extended: bool = False
    seed: int = Field(default=0, ge=0, lt=2**62)
    keep_pictures: bool = True
    drawing: DrawingRecipe = DrawingRecipe()
    judging: JudgingRecipe = JudgingRecipe()

    @field_validator("output", "prompts")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return path and expand_user(path)

    @model_validator(mode="after")
    def _fits_together(self) -> EvalRecipe:
        names = [setting.name.casefold() for setting in self.settings]  # some file systems see no difference
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"settings: {', '.join(twice)} comes twice; each needs a name of its own")
        if any(setting.name.casefold() == UNSTEERED and setting.adapters for setting in self.settings):
            raise ValueError(f"settings: {UNSTEERED} is what the others are compared with, so it takes no adapters")
        if self.protocol == "winobias" and (self.prompts or self.limit):
            raise ValueError("winobias has its own prompts, all of them: use the protocol prompts for a file of yours")
        if self.protocol == "prompts" and self.prompts is None:
            raise ValueError("prompts: name the file that holds them (.txt, .csv, .json or .jsonl)")
        if self.extended and self.protocol != "winobias":
            raise ValueError("extended: only winobias has extended templates")
        for metric in self.judging.metrics:
            if lacking := self.lacks(metric):
                raise ValueError(lacking)
        return self

    def lacks(self, metric: Metric) -> str:
        """Why a metric cannot be measured by this recipe, with the place to mend; empty: it can."""
        needs = needs_of(metric)
        if needs.setting and getattr(self.judging, needs.setting) is None:
            return f"judging.{needs.setting}: {needs.holds}"
        names = [setting.name for setting in self.settings]
        if needs.unsteered and (UNSTEERED not in names or len(names) == 1):
            return f"judging.metrics: {metric} compares with {UNSTEERED} pictures: measure both"
        return ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EvalRecipe:
        """Check plain values, as TOML or flags give them. Raises RecipeError naming every wrong place."""
        return checked(cls, values, _SECTIONS)


_SECTIONS: dict[str, type] = {"settings": SettingRecipe, "drawing": DrawingRecipe, "judging": JudgingRecipe}


def read_recipe(path: Path) -> dict[str, Any]:
    """The values of a recipe file. Relative paths are meant from the file's folder. Raises RecipeError."""
    values = load_toml(path)

    def beside(value: Any) -> Any:
        return str(path.parent / Path(value).expanduser()) if isinstance(value, str) else value

    for key in ("output", "prompts"):
        if key in values:
            values[key] = beside(values[key])
    if isinstance(values.get("base"), str) and (found := path.parent / values["base"]).exists():
        values["base"] = str(found)
    for variant in values.get("settings", ()):
        if isinstance(variant, dict) and isinstance(variant.get("adapters"), list):
            variant["adapters"] = [beside(one) for one in variant["adapters"]]
    judging = values.get("judging")
    if isinstance(judging, dict):
        values["judging"] = {
            key: beside(value) if key in ("q16_prompts", "reference", "inception") else value
            for key, value in judging.items()
        }
    return values
