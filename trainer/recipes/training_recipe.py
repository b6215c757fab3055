"""The recipe of a training run, validated from a TOML file and flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ...respodiff_core.learning.presets import preset_values, presets_of
from ...respodiff_core.learning.settings import ConceptSettings, TrainingSettings, setting
from ...respodiff_core.names import SUFFIX
from .strict import STRICT, Strict, Texts, as_list, check_tables, checked, expand_user, load_toml

Precision = Literal["auto", "float32", "bfloat16", "float16"]
FileDType = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, config=STRICT)
class ConceptRecipe(ConceptSettings):
    """One concept: a prompt to steer towards (`target`) or away from (`negative`), and neutral prompts to steer."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        """Fill in the preset's values."""
        if not isinstance(given, Mapping):
            return given
        given = dict(given)
        if preset := given.pop("preset", None):
            given = {**preset_values(str(preset)), **given}
        return given

    _as_list = field_validator("neutral", "synonyms", mode="before")(as_list)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ModelRecipe:
    """How a base model runs: precision, device, prediction type and image size."""

    precision: Precision = setting(
        "auto",
        "Precision of the frozen model: float32, bfloat16 or float16; auto is bfloat16 on GPUs that support it, "
        "float16 on other CUDA GPUs, and float32 elsewhere.",
    )
    device: str = setting(
        "auto",
        "Device by PyTorch's name: cpu, cuda:1, mps ...; auto is a GPU if there is one.",
        pattern=r"^(auto|cpu|mps|(cuda|xpu)(:[0-9]+)?)$",
    )
    prediction: Literal["auto", "epsilon", "v"] = setting(
        "auto", "Prediction type of the model; auto reads it from the model's files."
    )
    text_encoders: Texts = setting(
        (),
        "Text encoder file, if the base model is a UNet's file (clip_l, and clip_g for SDXL); replaces those of a "
        "checkpoint.",
        notes={"flag": "--text-encoder"},
    )
    vae: str | None = setting(None, "VAE file, for images of a base model without one; replaces that of a checkpoint.")
    width: int | None = setting(
        None, "Width of images in pixels; set both or neither (the native size if left out).", ge=64, multiple_of=8
    )
    height: int | None = setting(None, "Height of images in pixels.", ge=64, multiple_of=8)

    def latent_size(self, family: str) -> tuple[int, int] | None:
        """(height, width) of latents; None for the native size of the base model."""
        if self.height is None or self.width is None:
            return None
        from ...respodiff_core.adapter.families import pixels_per_latent

        pixels = pixels_per_latent(family)
        return self.height // pixels, self.width // pixels

    @model_validator(mode="after")
    def _has_a_size(self) -> ModelRecipe:
        if (self.width is None) != (self.height is None):
            raise ValueError("set width and height together, or neither")
        return self


@dataclass(frozen=True, config=STRICT)
class TrainingRecipe(ModelRecipe, TrainingSettings):
    """How to train: the same for all concepts of a run. `steps` is the default of concepts that do not set it."""

    checkpointing: bool = setting(False, "Gradient checkpointing: a third slower, with far less memory.")


@dataclass(frozen=True, config=STRICT)
class SavingRecipe:
    """What is saved during training."""

    every: int = setting(
        100, "Steps between saved states, from which --resume continues.", ge=1, notes={"flag": "--save-every"}
    )
    keep: int = setting(
        0, "Number of intermediate adapters to keep, the newest ones; one is written with each saved state.", ge=0
    )
    dtype: FileDType = setting("float32", "Data type of the tensors in the adapter file.")
    tensorboard: bool = setting(True, "Write TensorBoard logs next to the adapter.")


@dataclass(frozen=True, config=STRICT)
class PreviewRecipe:
    """Preview images during training: each prompt at each strength, with the same seed."""

    every: int = setting(0, "Steps between preview images; 0 makes none.", ge=0, notes={"flag": "--preview-every"})
    prompts: Texts = setting(
        ("a photo of a doctor",), "Prompt of the preview images.", min_length=1, notes={"flag": "--preview-prompt"}
    )
    strengths: tuple[float, ...] = setting(
        (0.0, 0.5, 1.0), "Strength of the preview images.", min_length=1, notes={"flag": "--preview-strength"}
    )
    guidance: float = setting(7.5, "Guidance scale of the preview images.", notes={"flag": "--preview-guidance"})
    schedule_steps: int = setting(
        20, "DDIM steps of the preview images.", ge=2, le=500, notes={"flag": "--preview-steps"}
    )
    seed: int = setting(0, "Seed of the preview images.", ge=0, lt=2**63, notes={"flag": "--preview-seed"})


@dataclass(frozen=True, config=STRICT)
class AboutRecipe:
    """Metadata of the file for model managers (ModelSpec)."""

    title: str = setting("", "Title of the adapter, for model managers.")
    author: str = setting("", "Author of the adapter, for model managers.")
    license: str = setting("", "License of the adapter, for model managers.")
    description: str = setting("", "Description of the adapter, for model managers.")


class Recipe(Strict):
    """A training run: a base model, and the concepts that are trained one after another into an output file."""

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
            raise ValueError(f"concepts: {', '.join(twice)} occurs twice; names must differ within a file")
        safety = [concept.name for concept in self.concepts if concept.category == "safety"]
        if self.previews.every and safety and min(self.previews.strengths) < 0:  # before hundreds of steps are trained
            raise ValueError(
                f"previews.strengths: safety concepts ({', '.join(safety)}) cannot have negative strengths"
            )
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Recipe:
        """Validate values from TOML or flags. Raises RecipeError, which names every invalid setting."""
        check_tables(values, [name for name in SECTIONS if name != "concepts"], ["concepts"])
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
        return checked(cls, values, SECTIONS)

    _expand_user = field_validator("output")(expand_user)

    def resolved(self) -> dict[str, Any]:
        """All values, including those of defaults and presets, as plain data."""
        return self.model_dump(mode="json")


SECTIONS: dict[str, type] = {
    "concepts": ConceptRecipe,
    "training": TrainingRecipe,
    "saving": SavingRecipe,
    "previews": PreviewRecipe,
    "about": AboutRecipe,
}
"""The tables of a recipe."""


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a recipe file; a relative base or output is relative to the file's folder. Raises RecipeError."""
    values = read_base_and_output(path)
    check_tables(values, [name for name in SECTIONS if name != "concepts"], ["concepts"])
    return values


def read_base_and_output(path: Path) -> dict[str, Any]:
    """The values of a recipe file; a relative base or output is relative to the file's folder. Raises RecipeError."""
    values = load_toml(path)
    for key in ("base", "output"):
        if isinstance(values.get(key), str):
            resolved = path.parent / Path(values[key]).expanduser()
            if key == "output" or resolved.exists():
                values[key] = str(resolved)
    for table in values.values():
        if isinstance(table, dict):
            _resolve_parts(table, path.parent)
    return values


def _resolve_parts(table: dict[str, Any], folder: Path) -> None:
    """The files of a base model's parts: relative to the recipe's folder, where they are there."""

    def resolved(file: Any) -> Any:
        if not isinstance(file, str):
            return file
        there = folder / Path(file).expanduser()
        return str(there) if there.exists() else file

    if isinstance(files := table.get("text_encoders"), list):
        table["text_encoders"] = [resolved(file) for file in files]
    if "vae" in table:
        table["vae"] = resolved(table["vae"])


def expand_group(concept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Expand a group of presets (`preset = "gender"`) into its concepts."""
    members = presets_of(str(concept.get("preset")))
    return [{**concept, "preset": name} for name in members] or [concept]
