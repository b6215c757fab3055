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
    """`alignment`: 100 times the cosine similarity of image and prompt: CLIP's logit (the paper's WinoAlign), or the
    CLIP score, which torchmetrics clips at 0.
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
    """Load the recipe's CLIP. Raises RespoDiffError."""
    return Alignment(loading.clip())
