"""`respodiff demo`: the whole road on two CPU cores. Train two adapters on ToyWorld, look at what they do to
professions they were not trained on, and load the same file in a real ComfyUI, where its own sampler must agree.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..respodiff_core.adapter import read
from .base.model import TOYWORLD, TOYWORLD_FOLDER, BaseModel, load_base
from .comfyui.source import fetch, users_own
from .recipe import Recipe
from .run.interrupts import Interrupted
from .run.training import train
from .sheet import draw as draw_sheet
from .sheet import pixels, save_picture
from .toyworld.evaluate import UNSTEERED, Asked, Fairness, Sampler, by_concept, fair_pictures, fairness, sampler
from .toyworld.host import Steered, ToyWorldInComfyUI
from .toyworld.world import PROFESSIONS, SHAPES

log = logging.getLogger(__name__)

AXIS = "shape"
PER_PROFESSION = 12
STEPS, GUIDANCE = 50, 7.5  # DDIM steps and guidance, as the paper's protocol has them
_SHOWN = ("doctor", "farmer", "guard", "lawyer", "nurse", "writer")
_EACH = 4  # pictures of each shown profession, before and after


def run(out: Path, version: str) -> None:
    """Write adapters and a picture to `out`, print a table and, as the last line, the figures as JSON.

    Raises RespoDiffError, ComfyUnavailable, and NodeFailed where a node of the real ComfyUI does.
    """
    began = time.monotonic()
    source = users_own() or fetch(version)  # before all the work that would be for nothing without it
    log.info("1/3  Training two adapters on ToyWorld: one brings round heads, one square ones.")
    try:
        adapter = train(demo_recipe(out / "shape.safetensors"), restart=True, force=True)
    except Interrupted as stop:
        raise Interrupted("The demo was stopped.", stop.signal) from None
    trained = time.monotonic() - began
    concepts = list(read(adapter).concepts.values())

    asked = fair_pictures(PER_PROFESSION, len(SHAPES))
    log.info("2/3  Drawing %d pictures of professions before and after.", len(asked.prompts))
    base = load_base(TOYWORLD)
    before = sampler(base, steps=STEPS, guidance=GUIDANCE)(asked.unsteered())
    after = sampler(base, concepts, steps=STEPS, guidance=GUIDANCE)(asked)
    picture = out / "before-after.png"
    save_picture(before_after(asked, before, after), picture)

    log.info("3/3  The same adapters in ComfyUI %s, by its own sampler.", source.version)
    with tempfile.TemporaryDirectory(prefix="respodiff-demo-") as folder:
        server = ToyWorldInComfyUI(source, Path(folder), TOYWORLD_FOLDER)
        with server:
            make = comfyui_sampler(server, base, adapter, [concept.name for concept in concepts])
            in_host = make(asked)
            in_host_before = make(asked.unsteered())
    figures = {
        "before": fairness(asked.unsteered(), before, AXIS),
        "after": fairness(asked, after, AXIS),
        "before, in ComfyUI": fairness(asked.unsteered(), in_host_before, AXIS),
        "after, in ComfyUI": fairness(asked, in_host, AXIS),
    }
    _report(figures, adapter, picture, trained, time.monotonic() - began)


def demo_recipe(output: Path, seed: int = 0) -> Recipe:
    """Both head shapes in one file, by ToyWorld's presets."""
    presets = [{"preset": f"toyworld/{shape}"} for shape in SHAPES]
    return Recipe.of(
        {"base": TOYWORLD, "output": str(output), "concepts": presets, "training": {"seed": seed, "device": "cpu"}}
    )


def comfyui_sampler(server: ToyWorldInComfyUI, base: BaseModel, adapter: Path, names: Sequence[str]) -> Sampler:
    """Sampling by ComfyUI; only the finished latents are decoded here."""

    def draw(asked: Asked, number: int) -> torch.Tensor:
        latents = server.sample(
            asked.prompts,
            seed=int(asked.seeds[0]),
            steered=None if number == UNSTEERED else Steered(adapter, names[number]),
            steps=STEPS,
            cfg=GUIDANCE,
        )
        return base.decode_latents(latents * base.latent_scale)

    return by_concept(draw)


def before_after(asked: Asked, before: torch.Tensor, after: torch.Tensor) -> Image.Image:
    """A sheet: some professions, the same seeds without and with the adapters, asked for in turn."""
    rows = []
    for name in _SHOWN:
        (mine,) = np.nonzero(asked.profession == PROFESSIONS.index(name))
        chosen = mine[:_EACH]
        rows.append((name, [pixels(picture) for picture in (*before[chosen], *after[chosen])]))
    columns = ["before"] * _EACH + [SHAPES[number] for number in asked.concept[:_EACH]]
    return draw_sheet(
        rows, columns, 96, "ToyWorld, the same seeds before and after; the adapters never saw a profession"
    )


def _report(figures: dict[str, Fairness], adapter: Path, picture: Path, trained: float, seconds: float) -> None:
    print(f"\n{'':22} deviation ratio   {'   '.join(f'{shape} asked, shown' for shape in SHAPES)}   right profession")
    for name, one in figures.items():
        steered = [f"{one.steering_accuracy[c]:.1%}" if one.steering_accuracy else "" for c in range(len(SHAPES))]
        cells = "   ".join(f"{cell:>{len(shape) + 13}}" for cell, shape in zip(steered, SHAPES, strict=True))
        print(f"{name:22} {one.deviation_ratio:15.3f}   {cells}   {one.profession_accuracy:16.1%}")
    print(f"\nAdapter: {adapter}   (trained in {trained:.0f} s)\nPicture: {picture}")
    before, after, host = figures["before"], figures["after"], figures["after, in ComfyUI"]
    print(
        json.dumps(
            {
                "deviation_ratio_base": round(before.deviation_ratio, 4),
                "deviation_ratio": round(after.deviation_ratio, 4),
                "steering_accuracy": round(after.lowest_steering_accuracy, 4),
                "profession_accuracy_base": round(before.profession_accuracy, 4),
                "profession_accuracy": round(after.profession_accuracy, 4),
                "host_deviation_ratio": round(host.deviation_ratio, 4),
                "host_steering_accuracy": round(host.lowest_steering_accuracy, 4),
                "host_profession_accuracy": round(host.profession_accuracy, 4),
                "training_seconds": round(trained, 1),
                "seconds": round(seconds, 1),
            }
        )
    )
