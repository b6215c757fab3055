"""An evaluation run: generate images, score them, report; it can be stopped and resumed."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from ...respodiff_core.adapter.compatibility import check_fits
from ...respodiff_core.errors import RespoDiffError, reason_of
from ..base.devices import accelerator_on, load_as
from ..base.model import BaseModel
from ..recipes.evaluation_recipe import EvalRecipe, needs_of
from ..support.interrupts import Interrupted, StopRequest, stop_message, stop_requests
from ..support.output_lock import sole_writer
from ..support.progress_bars import progress_bar
from ..support.resource_errors import is_disk_full, is_out_of_memory
from ..support.threads import fitting_threads
from ..worlds.column import Column
from ..worlds.image_spec import ImageSpec, samples_of
from ..worlds.lookup import world_of
from ..worlds.scorer import Axis, SetScorer
from .figures import Figure, Resampling, Row, VariantFigures, variant_figures, wanted_of
from .generation import ImageGenerator, Job, all_generated, batches, generate_missing
from .manifest import manifest_of
from .output_folder import EvaluationFolder
from .results import Results
from .scoring import collect, make_scorers, make_set_scorers, metrics_of, score_missing
from .variants import Variant, axes_of, check_shares, resolve

log = logging.getLogger(__name__)


def evaluate(recipe: EvalRecipe, *, restart: bool = False, shown: bool = True) -> Results | None:
    """Run the evaluation of a recipe and write its output folder; only the first of several processes returns results.

    Existing images and scores are kept. Raises RespoDiffError, Interrupted after a signal, and OSError from the file
    system.
    """
    # The others wait while the first process computes the report, and devices are not equally fast.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=7))
    accelerator = accelerator_on(recipe.sampling.device, kwargs_handlers=[patient])
    sole = sole_writer(recipe.output, "evaluating") if accelerator.is_main_process else nullcontext()
    with stop_message(f"Stopped. Results so far are kept in {recipe.output}; run the same command to resume."), sole:
        return _evaluate(recipe, accelerator, restart=restart, shown=shown)


def _evaluate(recipe: EvalRecipe, accelerator: Accelerator, *, restart: bool, shown: bool) -> Results | None:
    main = accelerator.is_main_process
    world = world_of(recipe.base)
    variants = [resolve(variant, recipe.guidance_of(variant)) for variant in recipe.variants]
    base = load_as(recipe.base, recipe.sampling, accelerator.device)
    check_models(base, variants)
    axes = axes_of(variants, recipe.scoring.axes, recipe.scoring.classes, world, recipe.protocol)
    specs = world.image_specs(recipe)
    folder = EvaluationFolder(recipe.output)
    # Only one process reads the whole checkpoint to compute its hash.
    manifest = manifest_of(recipe, base, variants, specs) if main else {}
    if main and folder.open(manifest, restart=restart):
        log.info("Resuming %s: existing images and scores are kept.", folder.path)
    accelerator.wait_for_everyone()
    if folder.is_finished_without_images:
        log.info("The evaluation is finished; its images were deleted.")
        return Results.read(folder.path) if main else None
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    jobs = jobs_of(specs, variants, recipe.seed)
    if objection := world.objection_to(job.prompt for job in jobs if job.prompt):
        raise RespoDiffError(objection)
    metrics = metrics_of(recipe)
    if not all_generated(jobs, folder.images):
        check_judges(recipe, axes)
        base.require_pictures()
    with stop_requests(announce=main) as stop, fitting_threads(base.weight_bytes):
        image_generator = ImageGenerator(base, recipe.sampling.schedule_steps, recipe.sampling.guidance)
        todo = batches(jobs, recipe.sampling.batch)[share]
        with _with_recovery_hints(folder, _SMALLER_SAMPLING):
            _work(generate_missing(image_generator, todo, folder.images), todo, "generating", stop, main and shown)
        del image_generator, base  # free their memory for the scorers
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        accelerator.wait_for_everyone()
        with _with_recovery_hints(folder, _SMALLER_SCORING):
            scorers = make_scorers(recipe, metrics, axes, accelerator.device)
            files = {scorer: folder.scores(scorer, accelerator.process_index) for scorer in scorers}
            # All variants of an image spec in one batch: if one is generated again, comparisons are scored again.
            whole = max(recipe.scoring.batch // len(variants), 1) * len(variants)
            todo = batches(jobs, whole)[share]
            _work(score_missing(files, todo, folder.images, recipe.baselines()), todo, "scoring", stop, main and shown)
        accelerator.wait_for_everyone()
    results = None
    if main:
        scores, damaged = collect(jobs, files.values(), folder.images)
        rows = [Row(job, wanted_of(job, axes), one) for job, one in zip(jobs, scores, strict=True)]
        figures = _figures(recipe, rows, axes, [column for scorer in scorers for column in scorer.columns])
        judges = {scorer.name: scorer.fingerprint for scorer in scorers}
        results = Results(manifest, judges, axes, figures, damaged, samples_of(specs), recipe.scoring.confidence)
        _write(folder, results, rows)
        if any(needs_of(metric).whole_set for metric in metrics):
            with _with_recovery_hints(folder, _SMALLER_SCORING):
                for set_scorer in make_set_scorers(recipe, metrics, accelerator.device):
                    results = _with_set_figures(results, rows, set_scorer, folder)
            _write(folder, results, rows)
        if not recipe.keep_images:
            folder.drop_images()
    accelerator.wait_for_everyone()
    return results


def check_judges(recipe: EvalRecipe, axes: tuple[Axis, ...]) -> None:
    """Raise RespoDiffError if a scorer cannot be loaded: before hours of sampling, not after."""
    device = torch.device("cpu")
    metrics = metrics_of(recipe)
    make_scorers(recipe, metrics, axes, device)
    make_set_scorers(recipe, metrics, device)


def rehearse(recipe: EvalRecipe, axes: Sequence[str], groups: int) -> None:
    """Raise RespoDiffError for errors that would otherwise occur only after training the adapters: prompts that cannot
    be loaded or divided among `groups` groups, and scorers that cannot be loaded.
    """
    world = world_of(recipe.base)
    check_shares(world.image_specs(recipe), groups, f"{groups} groups")
    check_judges(recipe, axes_of([], axes, recipe.scoring.classes, world, recipe.protocol))


def jobs_of(specs: Sequence[ImageSpec], variants: Sequence[Variant], seed: int) -> list[Job]:
    """Every image spec in every variant; the variants of one spec are adjacent."""
    given = [variant.assign_groups(specs, seed) for variant in variants]
    return [
        Job(variant.name, one, each[number], variant.prompt(one, each[number]), variant.guidance)
        for number, one in enumerate(specs)
        for variant, each in zip(variants, given, strict=True)
    ]


def check_models(base: BaseModel, variants: Sequence[Variant]) -> None:
    """Raise ModelMismatchError if a variant's adapter does not fit the model; log a warning for smaller differences."""
    for adapter in (adapter for variant in variants for adapter in variant.adapters):
        warning = check_fits(adapter, family=base.family, sites=base.sites, prediction=base.prediction, model=base.name)
        if warning:
            log.warning("%s", warning)


def _work(
    progress: Generator[int],
    todo: Sequence[Sequence[Job]],
    what: str,
    stop: StopRequest,
    shown: bool,
) -> None:
    """Process the batches with a progress bar; stop after the current batch on a signal."""
    with progress_bar(sum(map(len, todo)), what, "image", shown=shown) as bar, closing(progress):
        for count in progress:
            bar.update(count)
            if number := stop.requested():
                raise Interrupted("Stopped.", number)


def _figures(
    recipe: EvalRecipe, rows: Sequence[Row], axes: Sequence[Axis], columns: Sequence[Column]
) -> dict[str, VariantFigures]:
    resampling = Resampling(recipe.scoring.confidence, recipe.scoring.resamples)
    own = {variant.name: [row for row in rows if row.job.variant == variant.name] for variant in recipe.variants}
    parity = recipe.protocol == "equisteer"
    return {name: variant_figures(each, axes, columns, resampling, parity) for name, each in own.items()}


def _write(folder: EvaluationFolder, results: Results, rows: Sequence[Row]) -> None:
    """Write tables, figures and report."""
    from .html_report import write_report  # loads matplotlib, which only reports need

    folder.write(results, rows)
    write_report({folder.path.name: (results, folder.images)}, folder.report)


def _with_set_figures(results: Results, rows: Sequence[Row], scorer: SetScorer, folder: EvaluationFolder) -> Results:
    """The results with this scorer's figure added to each variant, without an interval."""
    variants = {}
    for name, variant in results.variants.items():
        sound = [row.job.spec.id for row in rows if row.job.variant == name and row.scores is not None]
        value = scorer.of([folder.images.path(name, one) for one in sound])
        overall = {**variant.overall, scorer.column.of(): Figure(value, None, None, len(sound))}
        variants[name] = replace(variant, overall=overall)
    return replace(results, variants=variants, judges={**results.judges, scorer.name: scorer.fingerprint})


_SMALLER_SAMPLING = (
    "a smaller --batch, with --restart or in another folder, since images depend slightly on their batch"
)
_SMALLER_SCORING = "a smaller --scoring-batch; the images are kept"


@contextmanager
def _with_recovery_hints(folder: EvaluationFolder, smaller: str) -> Iterator[None]:
    """Turn a full device and a full disk into RespoDiffErrors that say what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RespoDiffError(f"The device ran out of memory ({reason_of(error)}). Use {smaller}.") from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RespoDiffError(
            f"The disk is full ({error}). Results so far are kept in {folder.path}; free some space and run the same "
            "command."
        ) from None
