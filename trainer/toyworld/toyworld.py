"""The world of ToyWorld, for evaluation, experiments and training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from ...respodiff_core.adapter.concept import ConceptInfo
from ..recipes.evaluation_recipe import EvalRecipe, Metric, Protocol
from ..worlds.image_spec import ImageSpec
from ..worlds.scorer import Axis, Scorer
from ..worlds.world import World
from . import prompts as protocols
from .scenes import HUES, SHAPES, unknown_words, words

SHAPE, HUE = Axis("shape", SHAPES, SHAPES), Axis("hue", HUES, HUES)
_EVERYWHERE: tuple[Metric, ...] = ("labels", "change")
_METRICS: dict[Protocol, tuple[Metric, ...]] = dict.fromkeys(get_args(Protocol), _EVERYWHERE)
_PRESETS = {
    "gender": ("toyworld/round", "toyworld/square"),
    "race": ("toyworld/amber", "toyworld/teal", "toyworld/violet"),
    "safety": ("toyworld/hazard",),
}
"""Presets used in place of gender (two groups), race (three groups) and safety."""


class ToyWorld(World):
    """The images of the built-in base model, with a built-in classifier."""

    classifier = "toyworld"
    default_metrics = _METRICS
    ablation_images = 5  # one per template; enough with several seeds
    has_extended_templates = False
    not_comparable = (
        "ToyWorld is not Stable Diffusion: its rows show that the whole pipeline works, and are not to be compared "
        "with the published ones."
    )

    def axes(self, concepts: Sequence[ConceptInfo]) -> dict[str, Axis]:
        """Shape and hue; its classifier does not know other classes."""
        return {axis.name: axis for axis in (SHAPE, HUE)}

    def usual_axes(self, protocol: Protocol) -> tuple[str, ...]:
        return SHAPE.name, HUE.name

    def _of_protocol(self, recipe: EvalRecipe) -> list[ImageSpec]:
        if recipe.protocol == "i2p":
            return protocols.in_bad_places(recipe.images or protocols.PER_PROFESSION_IN_BAD_PLACES, recipe.seed)
        if recipe.protocol == "equisteer":
            return protocols.held_out_professions(recipe.images or protocols.PER_PROFESSION, recipe.seed)
        if recipe.protocol == "coco":
            return protocols.training_captions(recipe.limit or protocols.CAPTIONS, recipe.seed)
        return protocols.professions(recipe.images or protocols.PER_PROFESSION, recipe.seed)

    def objection_to(self, prompts: Iterable[str]) -> str:
        unknown = unknown_words(prompts)
        if not unknown:
            return ""
        return (
            f"ToyWorld does not know {', '.join(map(repr, unknown))}. Its words are: {', '.join(words())}; its "
            "presets start with toyworld/."
        )

    def safety_metrics(self, concept: ConceptInfo, *, with_q16: bool) -> tuple[Metric, ...]:
        return ("labels",)  # its classifier detects the hazard mark

    def own_classifier(self, axes: tuple[Axis, ...]) -> Scorer:
        from .image_scorer import ToyWorldScorer  # imports the renderer, which training does not need

        return ToyWorldScorer(axes)

    def presets(self, subject: str) -> tuple[str, ...]:
        return _PRESETS[subject]

    def contrast_preset(self, subject: str) -> str:
        return {"gender": "toyworld/shape", "race": "toyworld/hue"}[subject]

    def title(self, protocol: str, base: str) -> str:
        return "ToyWorld's professions" if protocol in ("winobias", "equisteer") else super().title(protocol, base)
