"""What a scorer is loaded from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ...recipes.evaluation_recipe import ScoringRecipe
from ...worlds.scorer import Axis

if TYPE_CHECKING:
    from .clip import Clip


@dataclass(frozen=True)
class Loading:
    """The settings of an evaluation that scorers need, and the networks that several of them share.

    `clip_model` is the CLIP model of most scorers, and `classifier` is `clip`, the name of a world's own classifier, or
    `module:function`.
    """

    scoring: ScoringRecipe
    clip_model: str
    axes: tuple[Axis, ...]
    classifier: str
    device: torch.device
    _clips: dict[str, Clip] = field(default_factory=dict)

    def clip(self, spec: str = "", option: str = "--clip") -> Clip:
        """The CLIP model in a folder or on the Hub, `clip_model` if left out, loaded once. Raises RespoDiffError, which
        names `option`.
        """
        spec = spec or self.clip_model
        from .clip import load_clip  # loads transformers

        if spec not in self._clips:
            self._clips[spec] = load_clip(spec, self.device, option)
        return self._clips[spec]
