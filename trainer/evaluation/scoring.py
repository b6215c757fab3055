"""Which scorers an evaluation has, and running them over its pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ...respodiff_core.errors import RespoDiffError
from ..recipes.evaluation import UNSTEERED, EvalRecipe, Metric
from ..worlds.lookup import own_classifier, world_of
from ..worlds.scorer import Axis, ScoredImage, Scorer, Scores
from .generation import Job
from .image_folder import DamagedPicture, PictureFolder
from .output_folder import ScoreFile

if TYPE_CHECKING:
    from .fid import FrechetDistance


def metrics_of(recipe: EvalRecipe) -> tuple[Metric, ...]:
    """The metrics asked for, else the protocol's in the base model's world: without those that need a file which was
    not given or compare with unsteered pictures that are not made.
    """
    judging = recipe.judging
    if judging.metrics:
        return tuple(dict.fromkeys(judging.metrics))
    chosen = world_of(recipe.base).default_metrics[recipe.protocol]
    missing: set[Metric] = set()
    if judging.q16_prompts is None:
        missing.add("q16")
    if judging.reference is None:
        missing.add("fid")
    names = [setting.name for setting in recipe.settings]
    if UNSTEERED not in names or len(names) == 1:
        missing |= {"distance", "change"}
    return tuple(metric for metric in chosen if metric not in missing)


def make_scorers(
    recipe: EvalRecipe, metrics: Sequence[Metric], axes: tuple[Axis, ...], device: torch.device
) -> list[Scorer]:
    """The scorers of these metrics, their models loaded. Raises RespoDiffError."""
    judging = recipe.judging
    scorers: list[Scorer] = []
    classifier = judging.classifier
    if classifier == "auto":
        classifier = world_of(recipe.base).classifier
    by_clip = axes if "labels" in metrics and classifier == "clip" else ()
    if by_clip or "alignment" in metrics:
        from .scorers.clip import ClipScorer, load_clip

        scorers.append(ClipScorer(load_clip(judging.clip, device), by_clip, alignment="alignment" in metrics))
    if "labels" in metrics and (own := own_classifier(classifier, axes)):
        scorers.append(own)
    elif "labels" in metrics and axes and classifier != "clip":
        from .scorers.own import OwnClassifier

        scorers.append(OwnClassifier(classifier, axes))
    if "distance" in metrics:
        from .scorers.dino import load_dino

        scorers.append(load_dino(judging.dino, device))
    if "change" in metrics:
        from .scorers.change import PixelChange

        scorers.append(PixelChange())
    if "nudity" in metrics:
        from .scorers.nudity import NudityScorer

        scorers.append(NudityScorer())
    if "q16" in metrics:
        from .scorers.clip import load_clip
        from .scorers.q16 import Q16Scorer, load_prompts

        assert judging.q16_prompts is not None, "checked by the recipe"
        scorers.append(Q16Scorer(load_clip(judging.q16_clip, device, "--q16-clip"), load_prompts(judging.q16_prompts)))
    if not scorers and "fid" not in metrics:
        raise RespoDiffError(
            "There is nothing to measure: name an --axis to tell apart, or a --metric (alignment, nudity ...)."
        )
    return scorers


def make_fid(recipe: EvalRecipe, device: torch.device) -> FrechetDistance:
    """FID to the recipe's reference. Raises RespoDiffError where that or the network cannot be had."""
    from .fid import FrechetDistance

    reference = recipe.judging.reference
    assert reference is not None, "checked by the recipe"
    if not reference.exists():
        raise RespoDiffError(f"There is no {reference}: FID needs real pictures, or their statistics (.npz).")
    return FrechetDistance(reference, device, recipe.judging.inception)


def key_of(job: Job) -> str:
    """A picture's name in scores."""
    return f"{job.setting}/{job.asked.id}"


def score_missing(
    scorers: Mapping[Scorer, ScoreFile],
    batches: Sequence[Sequence[Job]],
    pictures: PictureFolder,
) -> Generator[int]:
    """Score the batches that a scorer has not seen whole yet; yields how many pictures after each batch.

    A picture that cannot be read gets no scores.
    """
    known = {scorer: file.load() for scorer, file in scorers.items()}
    for batch in batches:
        todo = [scorer for scorer in scorers if any(key_of(job) not in known[scorer] for job in batch)]
        shown = _read(batch, pictures) if todo else {}
        for scorer in todo:
            if shown:
                judged = scorer.score(list(shown.values()))
                scorers[scorer].append(dict(zip(shown, judged, strict=True)))
        yield len(batch)


def collect(
    jobs: Sequence[Job], files: Iterable[ScoreFile], pictures: PictureFolder
) -> tuple[list[Scores | None], dict[str, str]]:
    """All scores of each picture, and by name the pictures that cannot be read, with the reason; they have none."""
    known = [file.load() for file in files]
    scores: list[Scores | None] = []
    damaged: dict[str, str] = {}
    for job in jobs:
        key = key_of(job)
        own = [one[key] for one in known if key in one]
        if len(own) < len(known):
            try:
                pictures.read(job.setting, job.asked.id)
            except DamagedPicture as error:
                damaged[key] = str(error)
        scores.append(None if key in damaged else {name: value for one in own for name, value in one.items()})
    return scores, damaged


def _read(batch: Sequence[Job], pictures: PictureFolder) -> dict[str, ScoredImage]:
    opened: dict[str, Image.Image | None] = {}

    def read(setting: str, picture: str) -> Image.Image | None:
        key = f"{setting}/{picture}"
        if key not in opened:
            try:
                opened[key] = pictures.read(setting, picture)
            except DamagedPicture:
                opened[key] = None
        return opened[key]

    shown = {}
    for job in batch:
        picture = read(job.setting, job.asked.id)
        compared = job.setting != UNSTEERED and pictures.has(UNSTEERED, job.asked.id)
        if picture is not None:
            shown[key_of(job)] = ScoredImage(job.asked, picture, read(UNSTEERED, job.asked.id) if compared else None)
    return shown
