"""Generating and scoring images in memory, for demos, calibration and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from ...respodiff_core.steering.fair_groups import FairGroup
from ..support.contact_sheet import pixels
from ..worlds.image_spec import ImageSpec
from ..worlds.scorer import Axis, ScoredImage, Scorer, Scores
from .figures import Resampling, Row, VariantFigures, variant_figures, wanted_of
from .generation import ImageGenerator, Job

_AT_ONCE = 48


def generate(image_generator: ImageGenerator, specs: Sequence[ImageSpec], given: Sequence[FairGroup]) -> torch.Tensor:
    """Images (count, 3, height, width) in [0, 1], on the CPU; image i is steered by `given[i]`."""
    parts = [
        image_generator.generate(specs[start : start + _AT_ONCE], given[start : start + _AT_ONCE]).cpu()
        for start in range(0, len(specs), _AT_ONCE)
    ]
    return torch.cat(parts)


def scores_of(images: torch.Tensor, specs: Sequence[ImageSpec], scorers: Sequence[Scorer]) -> list[Scores]:
    """The scores of images (count, 3, height, width) in [0, 1], rounded to 8 bits as in files."""
    pil_images = [Image.fromarray(pixels(image)) for image in images]
    shown = [ScoredImage(one, image) for one, image in zip(specs, pil_images, strict=True)]
    judged = [scorer.score(shown) for scorer in scorers]
    return [{name: value for scores in each for name, value in scores.items()} for each in zip(*judged, strict=True)]


def figures_of(
    images: torch.Tensor,
    specs: Sequence[ImageSpec],
    given: Sequence[FairGroup],
    scorers: Sequence[Scorer],
    axes: Sequence[Axis],
) -> VariantFigures:
    """The figures of images (count, 3, height, width) in [0, 1], as in an evaluation."""
    jobs = [Job("", one, group) for one, group in zip(specs, given, strict=True)]
    scores = scores_of(images, specs, scorers)
    rows = [Row(job, wanted_of(job, axes), one) for job, one in zip(jobs, scores, strict=True)]
    columns = [column for scorer in scorers for column in scorer.columns]
    return variant_figures(rows, axes, columns, Resampling())
