"""Choosing the scorers of an evaluation and running them on its images."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import get_args

import torch
from PIL import Image

from ...respodiff_core.errors import RespoDiffError
from ..recipes.evaluation_recipe import EvalRecipe, Metric, needs_of
from ..worlds.lookup import world_of
from ..worlds.scorer import Axis, ScoredImage, Scorer, Scores, SetScorer
from .generation import Job
from .image_folder import DamagedImage, ImageFolder
from .output_folder import ScoreFile
from .scorers.loading import Loading


def metrics_of(recipe: EvalRecipe) -> tuple[Metric, ...]:
    """The requested metrics, or the protocol's defaults in the base model's world, without those whose inputs are
    missing; in the order in which they are measured.
    """
    usual = world_of(recipe.base).default_metrics[recipe.protocol]
    chosen = recipe.scoring.metrics or [metric for metric in usual if not recipe.lacks(metric)]
    return tuple(metric for metric in get_args(Metric) if metric in chosen)


def make_scorers(
    recipe: EvalRecipe, metrics: Sequence[Metric], axes: tuple[Axis, ...], device: torch.device
) -> list[Scorer]:
    """The per-image scorers of these metrics, with their networks loaded. Raises RespoDiffError."""
    loading = _loading(recipe, axes, device)
    of_images = [metric for metric in metrics if not needs_of(metric).whole_set]
    scorers = [scorer for metric in of_images if (scorer := _module(metric).load(loading)) is not None]
    if not scorers and len(of_images) == len(metrics):
        raise RespoDiffError(
            "There is nothing to measure: give an --axis to classify, or a --metric (alignment, nudity ...)."
        )
    return scorers


def make_set_scorers(recipe: EvalRecipe, metrics: Sequence[Metric], device: torch.device) -> list[SetScorer]:
    """The scorers of these metrics that score all images of a variant together. Raises RespoDiffError."""
    loading = _loading(recipe, (), device)
    return [_module(metric).load(loading) for metric in metrics if needs_of(metric).whole_set]


def _loading(recipe: EvalRecipe, axes: tuple[Axis, ...], device: torch.device) -> Loading:
    classifier = recipe.scoring.classifier
    if classifier == "auto":
        classifier = world_of(recipe.base).classifier
    return Loading(recipe.scoring, recipe.clip, axes, classifier, device)


def _module(metric: Metric) -> ModuleType:
    """Imported when needed: some scorers use libraries that load slowly or are not installed."""
    return import_module(f".scorers.{metric}", __package__)


def key_of(job: Job) -> str:
    """The key of an image in scores."""
    return f"{job.variant}/{job.spec.id}"


def score_missing(
    scorers: Mapping[Scorer, ScoreFile],
    batches: Sequence[Sequence[Job]],
    images: ImageFolder,
    baselines: Mapping[str, str],
) -> Generator[int]:
    """Score the batches that a scorer has not completed; yields the size of each batch. `baselines` are the unsteered
    variants to compare with, by variant.

    An unreadable image gets no scores.
    """
    known = {scorer: file.load() for scorer, file in scorers.items()}
    for batch in batches:
        todo = [scorer for scorer in scorers if any(key_of(job) not in known[scorer] for job in batch)]
        shown = _read(batch, images, baselines) if todo else {}
        for scorer in todo:
            if shown:
                judged = scorer.score(list(shown.values()))
                scorers[scorer].append(dict(zip(shown, judged, strict=True)))
        yield len(batch)


def collect(
    jobs: Sequence[Job], files: Iterable[ScoreFile], images: ImageFolder
) -> tuple[list[Scores | None], dict[str, str]]:
    """All scores of each image (None if it is unreadable), and the unreadable images by key with the reason."""
    known = [file.load() for file in files]
    scores: list[Scores | None] = []
    damaged: dict[str, str] = {}
    for job in jobs:
        key = key_of(job)
        own = [one[key] for one in known if key in one]
        if len(own) < len(known):
            try:
                images.read(job.variant, job.spec.id)
            except DamagedImage as error:
                damaged[key] = str(error)
        scores.append(None if key in damaged else {name: value for one in own for name, value in one.items()})
    return scores, damaged


def _read(batch: Sequence[Job], images: ImageFolder, baselines: Mapping[str, str]) -> dict[str, ScoredImage]:
    opened: dict[str, Image.Image | None] = {}

    def read(variant: str, id_: str) -> Image.Image | None:
        key = f"{variant}/{id_}"
        if key not in opened:
            try:
                opened[key] = images.read(variant, id_)
            except DamagedImage:
                opened[key] = None
        return opened[key]

    shown = {}
    for job in batch:
        image = read(job.variant, job.spec.id)
        baseline = baselines.get(job.variant)
        compared = baseline if baseline is not None and images.has(baseline, job.spec.id) else None
        if image is not None:
            shown[key_of(job)] = ScoredImage(job.spec, image, read(compared, job.spec.id) if compared else None)
    return shown
