"""Alignment: how well an image fits its prompt, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...worlds.column import Column
from ...worlds.scorer import ScoredImage, Scorer, Scores
from .loading import Loading

if TYPE_CHECKING:
    from .clip import Clip


class Alignment(Scorer):
    """`alignment`: 100 x the cosine of an image and its prompt, which is CLIP's logit (the paper's WinoAlign) and the
    CLIP score, save that torchmetrics' has 0 for what is negative.
    """

    name = "alignment"
    columns = (
        Column(
            "alignment",
            "CLIP alignment",
            "100 times the cosine of image and prompt; more is better",
            over_strength=True,
            fidelity=True,
        ),
    )

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.fingerprint = clip.fingerprint

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        images = self._clip.images([one.image for one in shown])
        prompts = self._clip.texts([one.spec.prompt for one in shown])
        return [{"alignment": value} for value in (100 * (images * prompts).sum(1)).tolist()]


def load(loading: Loading) -> Alignment:
    """By the CLIP of the recipe. Raises RespoDiffError."""
    return Alignment(loading.clip(loading.judging.clip))
