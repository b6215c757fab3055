"""A calibration: generates and scores images, searches, and reports the results."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ...respodiff_core.adapter.adapter import Adapter, to_bytes
from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.names import MOST_SCALES
from ...respodiff_core.steering.fair_groups import FairGroup
from ...respodiff_core.steering.prompt_guard import axis_of
from ...respodiff_core.steering.steering import Term
from ..base.devices import accelerator_on, load_as
from ..evaluation.figures import largest
from ..evaluation.generation import ImageGenerator
from ..evaluation.in_memory import scores_of
from ..evaluation.run import check_models
from ..evaluation.scoring import make_scorers
from ..evaluation.variants import Variant, axes_of, class_wanted
from ..recipes.evaluation_recipe import EvalRecipe
from ..support.table import Table
from ..support.threads import fitting_threads
from ..worlds.image_spec import ImageSpec
from ..worlds.lookup import world_of
from ..worlds.scorer import Axis, Scorer
from .calibration import (
    CachedHits,
    Found,
    FoundScales,
    Search,
    axes_in,
    best_scales,
    pairs_of_axes,
    smallest_strength,
    with_guidance,
    with_scales,
    with_strengths,
)

log = logging.getLogger(__name__)

_OTHER_SEEDS = 1_000_003  # added to the seeds each time all image specs have been used
_MOST_UNSTEERED = 10  # times `Search.images`: the most images generated to find unsafe ones


@dataclass(frozen=True)
class Calibrated:
    """The adapter with its new recommendations, and the results by concept and by pair of axes."""

    adapter: Adapter
    strengths: dict[str, Found]
    scales: dict[tuple[str, str], FoundScales]
    over_guidance: dict[float, dict[str, Found]] = field(default_factory=dict)

    def table(self) -> Table:
        """The results as a table."""
        rows: list[tuple[object, ...]] = []
        for name, found in self._named():
            low, high = found.interval
            shown = f"{found.accuracy:.1%} ({low:.0%} to {high:.0%})"
            rows.append((name, f"strength {found.strength:g}", shown, found.images, found.spent))
        for (one, other), pair in self.scales.items():
            scales = " and ".join(f"{value:g}" for value in pair.scales)
            shown = " and ".join(f"{value:.0%}" for value in pair.accuracies)
            rows.append((f"{one} x {other}", f"scales {scales}", shown, pair.images, pair.spent))
        return Table(["", "recommended", "accuracy", "of images", "images generated"], rows)

    def shortfalls(self, accuracy: float) -> list[str]:
        """A sentence for each concept that reaches the accuracy at no strength."""
        return [
            f"{name}: no strength reaches the requested accuracy of {accuracy:.0%}; this one comes closest."
            for name, found in self._named()
            if not found.reached
        ]

    def _named(self) -> Iterator[tuple[str, Found]]:
        """The strengths by concept, and by guidance scale where there are several."""
        yield from self.strengths.items()
        for scale, strengths in self.over_guidance.items():
            yield from ((f"{name} at CFG {scale:g}", found) for name, found in strengths.items())

    def figures(self) -> dict[str, dict[str, float]]:
        """The results as plain numbers by concept and pair, for JSON."""
        figures = {
            name: {"strength": found.strength, "accuracy": round(found.accuracy, 4), "images": found.spent}
            for name, found in self._named()
        }
        for (one, other), pair in self.scales.items():
            figures[f"{one} x {other}"] = {f"scale of {one}": pair.scales[0], f"scale of {other}": pair.scales[1]}
        return figures


@dataclass
class GeneratedHits:
    """Generates images and scores each: whether it shows the requested class of each axis, or else nothing unsafe."""

    image_generator: ImageGenerator
    scorers: Sequence[Scorer]
    axes: tuple[Axis, ...]
    specs: Sequence[ImageSpec]
    batch: int
    new_seeds: bool = True

    def __call__(self, given: Sequence[FairGroup], first: int) -> np.ndarray:
        """(images, axes), see `calibration.Hits`."""
        specs = [self._spec(first + number) for number in range(len(given))]
        wanted = [axis for axis in self.axes if class_wanted(given[0], axis) is not None]
        unsafe = [column for scorer in self.scorers for column in scorer.columns if column.unsafe]
        hits = []
        for start in range(0, len(specs), self.batch):
            part, groups = specs[start : start + self.batch], given[start : start + self.batch]
            with fitting_threads(self.image_generator.base.weight_bytes):
                scored = scores_of(self.image_generator.generate(part, groups), part, self.scorers)
            for scores, group in zip(scored, groups, strict=True):
                if wanted:
                    hits.append([scores[axis.column] == class_wanted(group, axis) for axis in wanted])
                else:
                    hits.append([largest(scores, unsafe) == 0])
        return np.array(hits, dtype=bool)

    def _spec(self, number: int) -> ImageSpec:
        """The spec of image `number`; the list is repeated, with other seeds if `new_seeds`."""
        rounds, place = divmod(number, len(self.specs))
        one = self.specs[place]
        return replace(one, seed=one.seed + rounds * _OTHER_SEEDS) if self.new_seeds else one


def calibrate(
    adapter: Adapter,
    recipe: EvalRecipe,
    unsafe: EvalRecipe,
    search: Search,
    cache: Path,
    *,
    concepts: Sequence[str] = (),
    pairs: bool = True,
) -> Calibrated:
    """Find strengths for these concepts (by default all that can be scored) and scales for each pair of axes.

    `recipe` is the evaluation for fairness concepts, `unsafe` the one for safety concepts; `cache` is the file that
    stores results. Raises RespoDiffError.
    """
    accelerator = accelerator_on(recipe.sampling.device)
    if accelerator.num_processes > 1:
        raise RespoDiffError("A calibration runs in one process only: start it without a launcher.")
    world = world_of(recipe.base)
    unsafe = unsafe.model_copy(update={"images": unsafe.images or world.calibration_images})
    base = load_as(recipe.base, recipe.sampling, accelerator.device)
    variant = Variant("calibrated", (adapter,))
    check_models(base, [variant])
    chosen = [adapter.concept(name) for name in concepts] if concepts else list(adapter.concepts.values())
    fair = [one for one in chosen if one.info.category == "fairness" and axis_of(one.info)]
    safe = [one for one in chosen if one.info.category == "safety"]
    others = [one.name for one in chosen if one not in fair and one not in safe]
    if others and concepts:
        raise RespoDiffError(
            f"{', '.join(map(repr, others))} cannot be calibrated: name concepts that a classifier can recognize, "
            "which are groups of an axis (gender, race ...) and safety concepts."
        )
    if not fair and not safe:
        raise RespoDiffError(f"{adapter.source} has nothing to calibrate: no group of an axis, and no safety concept.")
    base.require_pictures()
    image_generator = ImageGenerator(base, recipe.sampling.schedule_steps, recipe.sampling.guidance)

    content = hashlib.sha256(to_bytes(adapter)).hexdigest()

    def hits_of(generated: GeneratedHits) -> CachedHits:
        fingerprints = [scorer.fingerprint for scorer in generated.scorers]
        parts = [base.sha256, content, asdict(recipe.sampling), fingerprints, generated.specs]
        return CachedHits(cache, hashlib.sha256(repr(parts).encode()).hexdigest()[:16], generated)

    strengths: dict[str, Found] = {}
    scales: dict[tuple[str, str], FoundScales] = {}
    if fair:
        axes = axes_of([variant], recipe.scoring.axes, recipe.scoring.classes, world, recipe.protocol)
        scorers = make_scorers(recipe, ("labels",), axes, accelerator.device)
        hits = hits_of(
            GeneratedHits(image_generator, scorers, axes, _shuffled(world.image_specs(recipe)), recipe.sampling.batch)
        )
        for concept in fair:
            strengths[concept.name] = _found(smallest_strength(concept, hits, search), concept.name)
    for concept in safe:
        metrics = world.safety_metrics(concept.info, with_q16=unsafe.scoring.q16_prompts is not None)
        scorers = make_scorers(unsafe, metrics, (), accelerator.device)
        specs = _of_category(_shuffled(world.image_specs(unsafe)), concept)
        everything = GeneratedHits(image_generator, scorers, (), specs, recipe.sampling.batch)
        # On prompts whose unsteered images are safe, any strength would be enough.
        unsafe_specs = _unsafe_unsteered(hits_of(everything), specs, search, concept)
        hits_unsafe = hits_of(replace(everything, specs=unsafe_specs, new_seeds=False))
        strengths[concept.name] = _found(smallest_strength(concept, hits_unsafe, search), concept.name)
    adapter = with_strengths(adapter, {name: found.strength for name, found in strengths.items()})
    if pairs and fair and not concepts:
        for one, other in pairs_of_axes(adapter):
            # Starting from scale 1, not from the file's previous recommendation.
            by_axis = axes_in(with_scales(adapter, {(one, other): 1.0, (other, one): 1.0}))
            groups = [
                [FairGroup(concept.name, (Term.of(concept, 1.0),)) for concept in by_axis[axis]]
                for axis in (one, other)
            ]
            found = best_scales(groups[0], groups[1], hits, search)
            log.info("%s x %s: scales %g and %g after %d images", one, other, *found.scales, found.spent)
            scales[one, other] = found
    recommended: dict[tuple[str, str], float] = {}
    for (one, other), pair in scales.items():
        recommended |= {(one, other): pair.scales[0], (other, one): pair.scales[1]}
    return Calibrated(with_scales(adapter, recommended), strengths, scales)


def calibrate_over_guidance(
    adapter: Adapter,
    recipe: EvalRecipe,
    unsafe: EvalRecipe,
    search: Search,
    cache: Path,
    scales: Sequence[float],
    *,
    concepts: Sequence[str] = (),
    pairs: bool = True,
) -> Calibrated:
    """Calibrate at several guidance scales: the recommended strength is that of the first, and the file says by which
    factor it changes at the others. Raises RespoDiffError.
    """
    if len(scales) > MOST_SCALES or not all(0 < scale <= 100 for scale in scales):
        raise RespoDiffError(
            f"Guidance scales must be above 0 and at most 100, and at most {MOST_SCALES} of them, not "
            f"{', '.join(f'{scale:g}' for scale in scales)}."
        )
    before = {name: concept.info.guidance for name, concept in adapter.concepts.items()}
    adapter = with_guidance(adapter, dict.fromkeys(adapter.concepts, ()))
    first, *others = [
        calibrate(
            adapter,
            _at_guidance(recipe, scale),
            _at_guidance(unsafe, scale),
            search,
            cache,
            concepts=concepts,
            pairs=pairs and scale == scales[0],
        )
        for scale in scales
    ]
    at = {scale: one.strengths for scale, one in zip(scales, (first, *others), strict=True)}
    factors = {
        name: tuple(sorted((scale, strengths[name].strength / found.strength) for scale, strengths in at.items()))
        for name, found in first.strengths.items()
    }
    over = {scale: one.strengths for scale, one in zip(scales[1:], others, strict=True)}
    return replace(first, adapter=with_guidance(first.adapter, before | factors), over_guidance=over)


def _at_guidance(recipe: EvalRecipe, scale: float) -> EvalRecipe:
    return recipe.model_copy(update={"sampling": replace(recipe.sampling, guidance=scale)})


def _shuffled(specs: list[ImageSpec]) -> list[ImageSpec]:
    """The specs in a fixed random order, so that few images cover many prompts."""
    random.Random(0).shuffle(specs)
    return specs


def _of_category(specs: list[ImageSpec], concept: Concept) -> list[ImageSpec]:
    """The specs of the category that the concept is named after, or else all."""
    own = [one for one in specs if {concept.name, concept.info.negative} & set(one.categories)]
    return own or specs


def _unsafe_unsteered(
    hits: CachedHits, specs: Sequence[ImageSpec], search: Search, concept: Concept
) -> list[ImageSpec]:
    """Specs whose unsteered images are unsafe, enough for a search and its check.

    Raises RespoDiffError if there are too few.
    """
    found: list[ImageSpec] = []
    unsteered = FairGroup("", ())
    most = min(len(specs), _MOST_UNSTEERED * search.images)
    for first in range(0, most, search.chunk):
        part = specs[first : min(first + search.chunk, most)]
        safe = hits([unsteered] * len(part), first)[:, 0]
        found += [one for one, is_safe in zip(part, safe, strict=True) if not is_safe]
        if len(found) >= 2 * search.images:
            return found[: 2 * search.images]
    if len(found) < search.chunk:
        raise RespoDiffError(
            f"Only {len(found)} of {most} images are unsafe without {concept.name!r}, too few to measure its effect: "
            "give prompts with more unsafe images with --prompts."
        )
    return found


def _found(found: Found, name: str) -> Found:
    log.info("%s: %.0f %% at strength %g after %d images", name, 100 * found.accuracy, found.strength, found.spent)
    return found
