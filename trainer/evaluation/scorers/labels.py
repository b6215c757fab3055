"""Labels: which group of each axis an image shows, by the classifier that the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...worlds.lookup import own_classifier
from ...worlds.scorer import Axis, ScoredImage, Scorer, Scores, rows
from .loading import Loading
from .own import OwnClassifier

if TYPE_CHECKING:
    from .clip import Clip


class ClipClassifier(Scorer):
    """`label:<axis>`: the class whose text is most similar to the image; the first of equals."""

    name = "clip"
    columns = ()

    def __init__(self, clip: Clip, axes: tuple[Axis, ...]) -> None:
        self._clip, self._axes = clip, axes
        self.fingerprint = "; ".join([clip.fingerprint, *(axis.in_words for axis in axes)])

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        images = self._clip.images([one.image for one in shown])
        labels = {axis.column: (images @ self._clip.texts(axis.texts).T).argmax(1).tolist() for axis in self._axes}
        return rows(labels, len(shown))


def load(loading: Loading) -> Scorer | None:
    """The classifier; None if there is no axis to classify and it has no other columns. Raises RespoDiffError."""
    if scorer := own_classifier(loading.classifier, loading.axes):
        return scorer
    if not loading.axes:
        return None
    if loading.classifier == "clip":
        return ClipClassifier(loading.clip(), loading.axes)
    return OwnClassifier(loading.classifier, loading.axes)
