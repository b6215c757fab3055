"""`respodiff demo`: from training to ComfyUI on two CPU cores. Trains two adapters on ToyWorld, measures their effect
on professions that were not in training, and samples with the same file in a real ComfyUI, where figures must agree.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...respodiff_core.steering.fair_groups import FairGroup
from ...respodiff_core.unfinished import temporary_folder
from ..base.model import BaseModel, load_base
from ..comfyui.source import fetch, users_own
from ..evaluation.figures import ACCURACY, DEVIATION, VariantFigures
from ..evaluation.image_folder import ImageFolder
from ..evaluation.in_memory import figures_of
from ..evaluation.output_folder import EvaluationFolder
from ..evaluation.presentation import cell_of
from ..evaluation.run import evaluate
from ..evaluation.variants import Variant, resolve
from ..recipes.evaluation_recipe import UNSTEERED, EvalRecipe
from ..recipes.training_recipe import Recipe
from ..run.training import train
from ..support.contact_sheet import draw as draw_sheet
from ..support.contact_sheet import save_image
from ..support.progress_bars import progress_bar
from ..support.table import Table
from ..worlds.image_spec import ImageSpec
from . import TOYWORLD
from .host import Steered, ToyWorldInComfyUI
from .image_scorer import RIGHT, ToyWorldScorer
from .scenes import SHAPES
from .toyworld import SHAPE, ToyWorld

log = logging.getLogger(__name__)

PER_PROFESSION = 10
STEPS, GUIDANCE = 25, 7.5  # half of the paper's steps: the same figures on ToyWorld in half the time
STEERED = "shape"
_SHEET_PROFESSIONS = ("doctor", "farmer", "guard", "lawyer", "nurse", "writer")
_EACH = 4  # images per profession on the contact sheet, without and with adapters
_BATCH = 32


@dataclass(frozen=True)
class Demo:
    """Results of the demo: a table, the paths of its files, and the figures as numbers by name."""

    table: Table
    adapter: Path
    image: Path
    report: Path
    numbers: dict[str, float]


def run(out: Path, version: str) -> Demo:
    """Write adapters, an evaluation and a contact sheet to `out`; `version` is the ComfyUI to fetch.

    Raises RespoDiffError, ComfyUnavailable, and NodeFailed if a node fails in ComfyUI.
    """
    began = time.monotonic()
    source = users_own() or fetch(version)  # first, so that a failure does not waste the training
    log.info("1/3  Training two adapters on ToyWorld, for round and for square heads.")
    adapter = train(demo_recipe(out / "shape.safetensors"), restart=True, force=True)
    trained = time.monotonic() - began

    recipe = demo_evaluation(out / "toyworld", adapter)
    log.info("2/3  Measuring %d images per profession without and with the adapters.", PER_PROFESSION)
    results = evaluate(recipe, restart=True)
    assert results is not None, "one process"
    folder = EvaluationFolder(recipe.output)
    image = out / "before-after.png"
    specs, variant = ToyWorld().image_specs(recipe), resolve(recipe.variants[1])
    save_image(before_after(specs, variant.assign_groups(specs, recipe.seed), folder.images), image)

    log.info("3/3  Sampling with the same adapters in ComfyUI %s.", source.version)
    with temporary_folder("respodiff-demo-") as place:
        server = ToyWorldInComfyUI(source, place)
        with server:
            in_host = _in_comfyui(server, load_base(TOYWORLD), specs, variant, adapter)
    figures = {
        "before": results.variants[UNSTEERED],
        "after": results.variants[STEERED],
        "before, in ComfyUI": in_host[UNSTEERED],
        "after, in ComfyUI": in_host[STEERED],
    }
    seconds = {"training_seconds": round(trained, 1), "seconds": round(time.monotonic() - began, 1)}
    return Demo(_table(figures), adapter, image, folder.report, {**_numbers(figures), **seconds})


def demo_recipe(output: Path, seed: int = 0) -> Recipe:
    """Both head shapes in one file, with ToyWorld's presets."""
    presets = [{"preset": f"toyworld/{shape}"} for shape in SHAPES]
    return Recipe.of(
        {"base": TOYWORLD, "output": str(output), "concepts": presets, "training": {"seed": seed, "device": "cpu"}}
    )


def demo_evaluation(output: Path, adapter: Path) -> EvalRecipe:
    """Professions without and with the adapter, as in `respodiff eval winobias --base toyworld`."""
    return EvalRecipe.of(
        {
            "protocol": "winobias",
            "base": TOYWORLD,
            "output": str(output),
            "images": PER_PROFESSION,
            "variants": [{"name": UNSTEERED}, {"name": STEERED, "adapters": [str(adapter)]}],
            "sampling": {"schedule_steps": STEPS, "guidance": GUIDANCE, "device": "cpu", "batch": _BATCH},
        }
    )


def before_after(specs: Sequence[ImageSpec], given: Sequence[FairGroup], images: ImageFolder) -> Image.Image:
    """A contact sheet of some professions: the same seeds without and with the adapters, half of them per shape."""
    rows = []
    for name in _SHEET_PROFESSIONS:
        chosen = [
            one.id
            for shape in SHAPES
            for one, group in zip(specs, given, strict=True)
            if one.group == name and group.name == shape
        ]
        chosen = [*chosen[: _EACH // 2], *chosen[-(_EACH // 2) :]]
        shown = [images.read(variant, id_) for variant in (UNSTEERED, STEERED) for id_ in chosen]
        rows.append((name, [np.asarray(image) for image in shown]))
    columns = ["without"] * _EACH + [f"with {shape}" for shape in SHAPES for _ in range(_EACH // 2)]
    return draw_sheet(
        rows, columns, 96, "ToyWorld: the same seeds without and with adapters, trained without professions"
    )


def _in_comfyui(
    server: ToyWorldInComfyUI, base: BaseModel, specs: Sequence[ImageSpec], steered: Variant, adapter: Path
) -> dict[str, VariantFigures]:
    """Figures of the same prompts and groups sampled by ComfyUI; only finished latents are decoded and scored here."""
    figures = {}
    scorers = [ToyWorldScorer((SHAPE,))]
    for variant in (Variant(UNSTEERED), steered):
        given = variant.assign_groups(specs, seed=0)
        images = torch.empty(len(specs), 3, 64, 64)
        with progress_bar(len(specs), f"in ComfyUI, {variant.name}", "image", leave=False) as bar:
            for name in dict.fromkeys(group.name for group in given):
                mine = [number for number, group in enumerate(given) if group.name == name]
                for start in range(0, len(mine), _BATCH):
                    rows = mine[start : start + _BATCH]
                    latents = server.sample(
                        [specs[row].prompt for row in rows],
                        seed=specs[rows[0]].seed,
                        steered=Steered(adapter, name) if name else None,
                        steps=STEPS,
                        cfg=GUIDANCE,
                    )
                    images[torch.tensor(rows)] = base.decode_latents(latents * base.latent_scale)
                    bar.update(len(rows))
        figures[variant.name] = figures_of(images, specs, given, scorers, (SHAPE,))
    return figures


def _table(figures: Mapping[str, VariantFigures]) -> Table:
    accuracies = {shape: ACCURACY.of(SHAPE.name, group=shape) for shape in SHAPES}
    names = [DEVIATION.of(SHAPE.name), *accuracies.values(), RIGHT.of()]
    rows = [[row, *(cell_of(one.overall.get(name), name.kind).value for name in names)] for row, one in figures.items()]
    return Table(["", DEVIATION.title, *(f"{shape} accuracy" for shape in accuracies), RIGHT.title], rows)


def _numbers(figures: Mapping[str, VariantFigures]) -> dict[str, float]:
    deviation, accuracy, right = DEVIATION.of(SHAPE.name), ACCURACY.of(SHAPE.name), RIGHT.of()
    before, after, host = (figures[name].overall for name in ("before", "after", "after, in ComfyUI"))
    return {
        "deviation_ratio_base": round(before[deviation].value, 4),
        "deviation_ratio": round(after[deviation].value, 4),
        "steering_accuracy": round(after[accuracy].value, 4),
        "profession_accuracy_base": round(before[right].value, 4),
        "profession_accuracy": round(after[right].value, 4),
        "host_deviation_ratio": round(host[deviation].value, 4),
        "host_steering_accuracy": round(host[accuracy].value, 4),
        "host_profession_accuracy": round(host[right].value, 4),
    }
