"""The recipe of an evaluation, validated from a TOML file and flags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ...respodiff_core.learning.settings import setting
from .strict import STRICT, Strict, Texts, as_list, checked, expand_user, load_toml
from .training_recipe import ModelRecipe

Protocol = Literal["winobias", "equisteer", "i2p", "coco", "prompts"]
FairnessProtocol = Literal["winobias", "equisteer"]
"""The protocols that measure fairness."""
Metric = Literal["alignment", "labels", "distance", "change", "nudity", "q16", "fid"]
"""Each is a module of that name in `trainer/evaluation/scorers/`; scorers run in this order."""


class Needs(NamedTuple):
    """What a metric needs: a `setting` of `[scoring]`, with a `message` if it is missing; `unsteered` images to compare
    with; or the `whole_set` of a variant's images, since it has no value per image.
    """

    setting: str = ""
    message: str = ""
    unsteered: bool = False
    whole_set: bool = False


_NEEDS: dict[Metric, Needs] = {
    "distance": Needs(unsteered=True),
    "change": Needs(unsteered=True),
    "q16": Needs("q16_prompts", "Q16 needs the file of its two prompt embeddings (prompts.p)"),
    "fid": Needs("reference", "FID needs a folder of real images, or their statistics (.npz)", whole_set=True),
}


def needs_of(metric: Metric) -> Needs:
    """The requirements of a metric."""
    return _NEEDS.get(metric, Needs())


Subject = Literal["gender", "race", "safety", "equisteer"]
"""The published tables: those of RespoDiff by subject, and EquiSteer's."""
UNSTEERED = "unsteered"
"""The variant without adapters, which is the baseline."""
AT_GUIDANCE = " at CFG "
"""Before the guidance scale in the name of a variant that is evaluated at several."""


def is_unsteered(name: str) -> bool:
    """Whether this is the name of the unsteered variant, at one or at several guidance scales."""
    return name.casefold().partition(AT_GUIDANCE.casefold())[0] == UNSTEERED


_CLIP, _LARGE_CLIP = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"

_RESERVED = {"CON", "PRN", "AUX", "NUL"}  # on Windows
_NAME_FORBIDS = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


@dataclass(frozen=True, config=STRICT)
class VariantRecipe:
    """One variant to evaluate: adapters, and the strengths of their concepts relative to the recommended ones."""

    name: str = setting(
        description="Name of the variant; the names of the adapters if left out.", min_length=1, max_length=64
    )
    adapters: tuple[Path, ...] = setting((), "Adapter file; several are applied together.")
    concepts: Texts = setting((), "Concept of the adapters to use; all of them if left out.")
    strength: float = setting(1.0, "Strength of all concepts.", ge=-100, le=100)
    strengths: dict[str, float] = setting(
        {},
        "Strength of one concept, as NAME=NUMBER, in place of --strength; also relative to the recommended one.",
        notes={"flag": "--concept-strength"},
    )
    named: bool = setting(
        False,
        "Name the groups in the prompts (a woman doctor) in place of steering: what steering is to be compared with.",
    )
    guidance: float | None = setting(None, "Guidance scale (CFG) of the images; that of the sampling if left out.")
    gate: bool = setting(
        False, "Leave images alone whose prompt already names a group of the axis (contrast concepts of fairness)."
    )
    scales: dict[str, float] = setting(
        {}, "Factor for the strengths of one axis, as AXIS=NUMBER, if axes are crossed (gender x race)."
    )

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if _NAME_FORBIDS.search(name) or name[0] == "." or name[-1] in ". " or name.upper() in _RESERVED:
            raise ValueError(f"{name!r} cannot be used as a folder name")
        return name

    @field_validator("adapters")
    @classmethod
    def _expand_user(cls, adapters: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(map(expand_user, adapters))


@dataclass(frozen=True, config=STRICT)
class SamplingRecipe(ModelRecipe):
    """How images are sampled: by DDIM, with the paper's steps and guidance scale."""

    schedule_steps: int = setting(50, "DDIM steps of each image.", ge=2, le=500, notes={"flag": "--sampling-steps"})
    guidance: float = setting(7.5, "Guidance scale (CFG) of the images.")
    batch: int = setting(8, "Batch size for sampling.", ge=1)


@dataclass(frozen=True, config=STRICT)
class ScoringRecipe:
    """How images are scored."""

    metrics: Annotated[tuple[Metric, ...], BeforeValidator(as_list)] = setting(
        (),
        "Metric: alignment (of image and prompt, CLIP), labels (the group in each image), distance (to the unsteered "
        "image, DINO), change (of its pixels), nudity, q16 (unsafe content), fid (distance to real images); those of "
        "the protocol if left out.",
    )
    axes: Texts = setting(
        (),
        "Axis whose groups are classified: gender, race, age, or one from --class; the axes of the adapters if left "
        "out.",
        notes={"flag": "--axis"},
    )
    classes: dict[str, dict[str, str]] = setting(
        {}, "Class of your own axis, as AXIS.NAME=TEXT, with the text for the classifier.", notes={"flag": "--class"}
    )
    classifier: str = setting("auto", "Classifier of the groups: auto, clip, toyworld, or your own as module:function.")
    clip: str = setting("", f"CLIP model: a folder or Hub id; {_CLIP} if left out, and {_LARGE_CLIP} for equisteer.")
    dino: str = setting("facebook/dinov2-base", "DINO model: a folder or Hub id.")
    q16_prompts: Path | None = setting(
        None, "File of Q16's two prompt embeddings: prompts.p of Q16's repository, or .npy."
    )
    q16_clip: str = setting(_LARGE_CLIP, "CLIP model of Q16: a folder or Hub id.")
    reference: Path | None = setting(None, "Folder of real images, or their statistics (.npz), for FID.")
    inception: Path | None = setting(None, "File of FID's Inception network, if it cannot be downloaded.")
    batch: int = setting(64, "Batch size for scoring.", ge=1, notes={"flag": "--scoring-batch"})
    confidence: float = setting(0.95, "Confidence level of the intervals.", gt=0, lt=1)
    resamples: int = setting(1000, "Bootstrap samples per interval.", ge=100)

    @field_validator("q16_prompts", "reference", "inception")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return path and expand_user(path)


class EvalRecipe(Strict):
    """An evaluation: a protocol on a base model in several `variants`, with one output folder.

    `prompts` is a file: required for the protocol `prompts`, and a local copy of the data set for i2p and coco.
    """

    protocol: Protocol
    base: str = Field(min_length=1)
    output: Path
    prompts: Path | None = None
    variants: list[VariantRecipe] = Field(default=[VariantRecipe(name=UNSTEERED)], min_length=1)
    images: int | None = Field(
        default=None,
        ge=1,
        description="Images per profession (winobias: a multiple of 5 templates x the groups) or per prompt; those of "
        "the protocol if left out (equisteer: 100).",
    )
    limit: int | None = Field(
        default=None, ge=1, description="Number of prompts to use from a data set; all if left out."
    )
    extended: bool = Field(default=False, description="Use prompts with 'a successful <profession>' (winobias).")
    seed: int = Field(default=0, ge=0, lt=2**62, description="Seed of the first image; image i uses seed + i.")
    keep_images: bool = Field(
        default=True,
        description="Keep images after scoring, or delete them.",
        json_schema_extra={"flag": "--keep-images/--delete-images"},
    )
    sampling: SamplingRecipe = SamplingRecipe()
    scoring: ScoringRecipe = ScoringRecipe()

    @field_validator("output", "prompts")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return path and expand_user(path)

    @model_validator(mode="after")
    def _fits_together(self) -> EvalRecipe:
        names = [variant.name.casefold() for variant in self.variants]  # some file systems ignore case
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"variants: {', '.join(twice)} occurs twice; each variant needs a different name")
        if any(is_unsteered(variant.name) and variant.adapters for variant in self.variants):
            raise ValueError(f"variants: {UNSTEERED} is the baseline, so it takes no adapters")
        if self.protocol in ("winobias", "equisteer") and (self.prompts or self.limit):
            raise ValueError(
                f"{self.protocol} has its own prompts and uses all of them: for your own file, use the protocol prompts"
            )
        if self.protocol == "prompts" and self.prompts is None:
            raise ValueError("prompts: name a file with prompts (.txt, .csv, .json or .jsonl)")
        if self.protocol == "coco" and self.images:
            raise ValueError("images: coco has one image per caption; limit takes fewer captions")
        if self.extended and self.protocol != "winobias":
            raise ValueError("extended: only winobias has extended templates")
        for metric in self.scoring.metrics:
            if lacking := self.lacks(metric):
                raise ValueError(lacking)
        return self

    def lacks(self, metric: Metric) -> str:
        """Why this recipe cannot measure a metric, with the setting to change; empty if it can."""
        needs = needs_of(metric)
        if needs.setting and getattr(self.scoring, needs.setting) is None:
            return f"scoring.{needs.setting}: {needs.message}"
        if needs.unsteered and not self.baselines():
            return f"scoring.metrics: {metric} compares with {UNSTEERED} images: evaluate both variants"
        return ""

    def guidance_of(self, variant: VariantRecipe) -> float:
        """The guidance scale of a variant's images."""
        return self.sampling.guidance if variant.guidance is None else variant.guidance

    def baselines(self) -> dict[str, str]:
        """By the name of each other variant: the unsteered one at the same guidance scale, if there is one."""
        unsteered = {self.guidance_of(one): one.name for one in self.variants if is_unsteered(one.name)}
        others = [one for one in self.variants if not is_unsteered(one.name)]
        return {one.name: unsteered[self.guidance_of(one)] for one in others if self.guidance_of(one) in unsteered}

    @property
    def clip(self) -> str:
        """The CLIP model of the scorers."""
        return self.scoring.clip or (_LARGE_CLIP if self.protocol == "equisteer" else _CLIP)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EvalRecipe:
        """Validate values from TOML or flags. Raises RecipeError, which names every invalid setting."""
        return checked(cls, values, _SECTIONS)


_SECTIONS: dict[str, type] = {"variants": VariantRecipe, "sampling": SamplingRecipe, "scoring": ScoringRecipe}


def read_recipe(path: Path) -> dict[str, Any]:
    """The values of a recipe file. Relative paths are relative to the file's folder. Raises RecipeError."""
    values = load_toml(path)

    def resolve(value: Any) -> Any:
        return str(path.parent / Path(value).expanduser()) if isinstance(value, str) else value

    for key in ("output", "prompts"):
        if key in values:
            values[key] = resolve(values[key])
    if isinstance(values.get("base"), str) and (found := path.parent / values["base"]).exists():
        values["base"] = str(found)
    for variant in values.get("variants", ()):
        if isinstance(variant, dict) and isinstance(variant.get("adapters"), list):
            variant["adapters"] = [resolve(one) for one in variant["adapters"]]
    scoring = values.get("scoring")
    if isinstance(scoring, dict):
        values["scoring"] = {
            key: resolve(value) if key in ("q16_prompts", "reference", "inception") else value
            for key, value in scoring.items()
        }
    return values
