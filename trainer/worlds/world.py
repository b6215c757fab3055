"""The interface of worlds: what evaluation, experiments and training need to know about a base model's images."""

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
    "equisteer": "Professions (EquiSteer)",
    "i2p": "Unsafe prompts (I2P)",
    "coco": "Everyday captions (COCO)",
    "prompts": "Custom prompts",
}


class World(ABC):
    """The images of a kind of base model: which prompts can be measured, and how images are scored."""

    classifier: ClassVar[str]
    """The classifier that `auto` selects."""
    default_metrics: ClassVar[Mapping[Protocol, tuple[Metric, ...]]]
    ablation_images: ClassVar[int | None] = None
    """Images per profession and group in an ablation; None: as in the protocol."""
    calibration_images: ClassVar[int | None] = None
    """Images per unsafe prompt in a calibration; None: as in the protocol."""
    has_extended_templates: ClassVar[bool] = True
    """Whether the protocol of professions also has "a successful <profession>"."""
    not_comparable: ClassVar[str] = ""
    """A sentence on why its results cannot be compared with the paper's; empty if they can."""

    @abstractmethod
    def axes(self, concepts: Sequence[ConceptInfo]) -> dict[str, Axis]:
        """The axes that can be classified, by name, with the classes that these concepts add."""

    @abstractmethod
    def usual_axes(self, protocol: Protocol) -> tuple[str, ...]:
        """The axes to classify if neither the recipe nor an adapter names one."""

    def image_specs(self, recipe: EvalRecipe) -> list[ImageSpec]:
        """The image specs of the recipe's protocol, from its prompt file or the protocol's own prompts. Raises
        RespoDiffError, also for prompts that this world does not support.
        """
        specs = _of_file(recipe.prompts, recipe) if recipe.prompts else self._of_protocol(recipe)
        if objection := self.objection_to(spec.prompt for spec in specs):
            raise RespoDiffError(objection)
        return specs

    @abstractmethod
    def _of_protocol(self, recipe: EvalRecipe) -> list[ImageSpec]:
        """The image specs of winobias, i2p or coco without a prompt file. Raises RespoDiffError."""

    def objection_to(self, prompts: Iterable[str]) -> str:
        """A sentence on why these prompts are not supported; empty if they are."""
        return ""

    @abstractmethod
    def safety_metrics(self, concept: ConceptInfo, *, with_q16: bool) -> tuple[Metric, ...]:
        """The metrics that detect this concept's unsafe content; `with_q16`: Q16's prompt embeddings are available.
        Raises RespoDiffError if there are none.
        """

    def own_classifier(self, axes: tuple[Axis, ...]) -> Scorer | None:
        """The scorer that `classifier` names, if it is built in. Raises RespoDiffError for axes it cannot classify."""
        return None

    @abstractmethod
    def presets(self, subject: str) -> tuple[str, ...]:
        """The presets, or groups of presets, for `gender`, `race` or `safety`."""

    @abstractmethod
    def contrast_preset(self, subject: str) -> str:
        """The preset of contrast concepts for `gender` or `race`."""

    def title(self, protocol: str, base: str) -> str:
        """The title of an evaluation by this protocol on the base model of that name."""
        return f"{_TITLES.get(protocol, protocol)} on {base}"


def _of_file(path: Path, recipe: EvalRecipe) -> list[ImageSpec]:
    """The image specs of the recipe's prompt file. Raises RespoDiffError."""
    if recipe.protocol == "coco":
        return protocols.captions(protocols.read_rows(path, "caption")[: recipe.limit], recipe.seed)
    rows = protocols.read_rows(path, "prompt")[: recipe.limit]
    if recipe.protocol == "i2p":
        return protocols.i2p(rows, recipe.images or protocols.PER_I2P_PROMPT, recipe.seed)
    return protocols.prompts(rows, recipe.images or 1, recipe.seed)
