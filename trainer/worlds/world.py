"""What evaluation, experiments and training need to know of the images that a base model is made for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ...respodiff_core.adapter.concept import ConceptInfo
from ...respodiff_core.errors import RespoDiffError
from ..recipes.evaluation_recipe import EvalRecipe, Metric, Protocol
from . import protocols
from .image_spec import ImageSpec
from .scorer import Axis, Scorer

_TITLES = {
    "winobias": "Professions (WinoBias)",
    "i2p": "Unsafe prompts (I2P)",
    "coco": "Everyday captions (COCO)",
    "prompts": "Prompts of the evaluator's own",
}


class World(ABC):
    """The images of a kind of base model: what can be asked for, and what can be told of them."""

    classifier: ClassVar[str]
    """What the classifier `auto` stands for."""
    default_metrics: ClassVar[Mapping[Protocol, tuple[Metric, ...]]]
    ablation_images: ClassVar[int | None] = None
    """Images of each profession and group in an ablation; None: as many as the protocol has."""
    calibration_images: ClassVar[int | None] = None
    """Images of each unsafe prompt in a calibration; None: as many as the protocol has."""
    has_extended_templates: ClassVar[bool] = True
    """Whether the protocol of professions has "a successful <profession>" too."""
    not_comparable: ClassVar[str] = ""
    """Why its rows cannot be compared with the paper's, as a sentence; empty: they can."""

    @abstractmethod
    def axes(self, concepts: Sequence[ConceptInfo]) -> dict[str, Axis]:
        """The axes that can be told apart, by name, with the classes that these concepts add."""

    @abstractmethod
    def usual_axes(self, protocol: Protocol) -> tuple[str, ...]:
        """The axes to judge where neither the recipe nor an adapter names one."""

    def image_specs(self, recipe: EvalRecipe) -> list[ImageSpec]:
        """What the recipe's protocol asks for, from its prompt file or the protocol's own prompts. Raises
        RespoDiffError, also for prompts that this world does not know.
        """
        specs = _of_file(recipe.prompts, recipe) if recipe.prompts else self._of_protocol(recipe)
        if objection := self.objection_to(spec.prompt for spec in specs):
            raise RespoDiffError(objection)
        return specs

    @abstractmethod
    def _of_protocol(self, recipe: EvalRecipe) -> list[ImageSpec]:
        """The image specs of winobias, i2p or coco without a prompt file. Raises RespoDiffError."""

    def objection_to(self, prompts: Iterable[str]) -> str:
        """Why these prompts cannot be drawn, as a sentence; empty: they can."""
        return ""

    @abstractmethod
    def safety_metrics(self, concept: ConceptInfo, *, with_q16: bool) -> tuple[Metric, ...]:
        """What tells that an image is unsafe in the way that the concept is about; `with_q16`: Q16's prompt embeddings
        are there. Raises RespoDiffError where nothing does.
        """

    def own_classifier(self, axes: tuple[Axis, ...]) -> Scorer | None:
        """The scorer that `classifier` names, where it is this world's own. Raises RespoDiffError for other axes."""
        return None

    @abstractmethod
    def presets(self, subject: str) -> tuple[str, ...]:
        """The presets, or groups of them, for `gender`, `race` or `safety`."""

    def title(self, protocol: str, base: str) -> str:
        """The title of an evaluation by this protocol on the base model of that name."""
        return f"{_TITLES.get(protocol, protocol)} on {base}"


def _of_file(path: Path, recipe: EvalRecipe) -> list[ImageSpec]:
    """The image specs of the recipe's own prompt file. Raises RespoDiffError."""
    if recipe.protocol == "coco":
        return protocols.captions(protocols.read_rows(path, "caption")[: recipe.limit], recipe.seed)
    rows = protocols.read_rows(path, "prompt")[: recipe.limit]
    if recipe.protocol == "i2p":
        return protocols.i2p(rows, recipe.images or protocols.PER_I2P_PROMPT, recipe.seed)
    return protocols.prompts(rows, recipe.images or 1, recipe.seed)
