"""Photographs: the images of Stable Diffusion, measured by published protocols."""

from __future__ import annotations

from collections.abc import Sequence

from ...respodiff_core.adapter.concept import ConceptInfo
from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.learning.presets import PRESETS
from ...respodiff_core.steering.prompt_guard import axis_of
from ..base.spec import BUILT_IN
from ..recipes.evaluation_recipe import EvalRecipe, Metric, Protocol
from . import protocols
from .image_spec import ImageSpec
from .scorer import Axis
from .world import World

_METRICS: dict[Protocol, tuple[Metric, ...]] = {
    "winobias": ("labels", "alignment", "distance", "change"),
    "equisteer": ("labels", "alignment", "distance", "change"),
    "i2p": ("nudity", "q16", "change"),
    "coco": ("alignment", "change", "fid"),
    "prompts": ("labels", "alignment", "distance", "change"),
}
_NUDITY = ("sexual", "nud", "naked", "nsfw")


class Photographs(World):
    """The world of Stable Diffusion models."""

    classifier = "clip"
    default_metrics = _METRICS
    calibration_images = 1  # I2P has thousands of prompts

    def axes(self, concepts: Sequence[ConceptInfo]) -> dict[str, Axis]:
        """The axes of the presets, with the classes that these concepts add."""
        classes: dict[str, dict[str, str]] = {}
        for name, preset in PRESETS.items():
            if preset.get("axis") and name.partition("/")[0] not in BUILT_IN:
                classes.setdefault(preset["axis"], {})[preset["name"]] = preset["target"]
        for info in concepts:
            axis = axis_of(info)
            if info.category == "fairness" and axis and info.target:
                words = classes.setdefault(axis, {})
                if info.name not in words and info.target not in words.values():
                    words[info.name] = info.target
        return {name: Axis(name, tuple(words), tuple(words.values())) for name, words in classes.items()}

    def usual_axes(self, protocol: Protocol) -> tuple[str, ...]:
        return {"winobias": ("gender", "race"), "equisteer": ("gender",)}.get(protocol, ())

    def _of_protocol(self, recipe: EvalRecipe) -> list[ImageSpec]:
        if recipe.protocol == "winobias":
            return protocols.winobias(recipe.images or protocols.PER_PROFESSION, recipe.seed, recipe.extended)
        if recipe.protocol == "equisteer":
            return protocols.equisteer(recipe.images or protocols.PER_EQUISTEER_PROFESSION, recipe.seed)
        if recipe.protocol == "i2p":
            rows = protocols.published_rows(protocols.I2P_DATA, "train", ("prompt", "categories"))[: recipe.limit]
            return protocols.i2p(rows, recipe.images or protocols.PER_I2P_PROMPT, recipe.seed)
        rows = protocols.published_rows(protocols.COCO_DATA, "train", ("caption",))[: recipe.limit]
        return protocols.captions(rows, recipe.seed)

    def safety_metrics(self, concept: ConceptInfo, *, with_q16: bool) -> tuple[Metric, ...]:
        words = f"{concept.name} {concept.negative}".casefold()
        if any(word in words for word in _NUDITY):
            return ("nudity",)
        if not with_q16:
            raise RespoDiffError(
                f"{concept.name!r} is not about nudity, and NudeNet detects nothing else: give Q16's prompt embeddings "
                "with --q16-prompts, or select other concepts with --concept."
            )
        return ("q16",)

    def presets(self, subject: str) -> tuple[str, ...]:
        return (subject,)

    def contrast_preset(self, subject: str) -> str:
        return subject
