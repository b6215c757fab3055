"""Create the thumbnails of the templates: the effect of each workflow's nodes on ToyWorld, in a real ComfyUI.

Run from the repository's root after a change of a workflow's purpose: PYTHONPATH=tests python tools/make_thumbnails.py
With part of a name as argument, only that thumbnail is created. Head shapes, hues and a hazard stand for the concepts
of real adapters, since ToyWorld is the only trained model in the package.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_bench import STEER_DEFAULTS, Bench
from comfy_graph import Graph, Link, output
from comfy_hosts import NEWEST, PACK, source_of
from PIL import Image, ImageOps
from respodiff.respodiff_core.learning.contrast_presets import CONTRASTS
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.support.contact_sheet import BACKGROUND, draw, pixels
from respodiff.trainer.toyworld import TOYWORLD
from respodiff.trainer.toyworld.host import TOYWORLD_PACK, ToyWorldInComfyUI
from respodiff.trainer.toyworld.scenes import HAZARD, HUES, SHAPES
from shipped_workflows import (
    COMPANY,
    CROSSED,
    FAIR_PROMPTS,
    FAIRNESS_APP,
    GENDER_SD15,
    GUARD,
    HIRES,
    INSTANT_BOTH,
    INSTANT_FAIRNESS,
    INSTANT_SAFETY,
    MADE_HERE,
    MIX,
    RACE_SDXL_WORKFLOW,
    REGION,
    SAFE,
    STEER,
    SWEEP,
    TRAIN,
    WORKFLOWS,
)
from shipped_workflows.on_toyworld import WITHOUT_CHECKPOINT
from toyworld_graph import (
    SIZE,
    all_of,
    empty,
    fair,
    guarded,
    load_toyworld,
    safe,
    sampled,
    toyworld_clip,
    train_adapter,
)
from training_graph import trained_on_toyworld

FOLDER = PACK / "workflows"
ADAPTERS = {"shape": SHAPES, "hue": HUES, "safety": (HAZARD,)}
SIDE = 480  # pixels of a thumbnail; the page shows it in a square of half that
BLACK_OF_MASK = 70  # visible on the sheet's background
PERSON, DOCTOR, LAWYER, MECHANIC, TEACHER = (
    f"a photo of a {who}" for who in ("person", "doctor", "lawyer", "mechanic", "teacher")
)

Images = Sequence[np.ndarray]
Steering = Callable[[Graph, Link], Link]  # adds nodes to the MODEL


@dataclass(frozen=True)
class Sheet:
    """Labelled rows of images, and the labels of the columns."""

    rows: Sequence[tuple[str, Images]]
    columns: Sequence[str]


@dataclass(frozen=True)
class Studio:
    """A running ComfyUI, and the base model that decodes its latents."""

    bench: Bench
    base: BaseModel

    def generate(self, prompt: str, *steering: Steering, images: int = 1) -> Images:
        """One batch of a prompt; `steering` is applied to the model in this order."""
        graph = Graph()
        return self.run(graph, sampled(graph, steered(graph, steering), prompt, empty(graph, images)))

    def run(self, graph: Graph, latent: Link) -> Images:
        graph.add("SaveLatent", samples=latent, filename_prefix="thumbnail")
        latents = self.bench.latent(graph)
        with torch.inference_mode():
            return [pixels(image) for image in self.base.decode_latents(latents * self.base.latent_scale)]


def steered(graph: Graph, steering: Iterable[Steering]) -> Link:
    model = load_toyworld(graph)
    for add in steering:
        model = add(graph, model)
    return model


def load_adapter(graph: Graph, name: str) -> Link:
    return graph.add("RespoDiffLoadAdapter", adapter=f"{name}.safetensors")


def steer(adapter: str, concept: str, strength: float = 1.0, **more: Any) -> Steering:
    settings = STEER_DEFAULTS | {"concept": concept, "strength": strength} | more
    return lambda graph, model: graph.add(
        "RespoDiffSteer", model=model, adapter=load_adapter(graph, adapter), **settings
    )


def safety(graph: Graph, model: Link) -> Link:
    return safe(graph, model, "safety.safetensors")


def fair_batch(adapter: str, images: int) -> Steering:
    return lambda graph, model: fair(graph, model, all_of(graph, load_adapter(graph, adapter)), images)


def guarded_batch(prompt: str, images: int) -> Steering:
    def add(graph: Graph, model: Link) -> Link:
        adapter = guarded(graph, load_adapter(graph, "shape"), prompt)
        return fair(graph, model, all_of(graph, adapter), images)

    return add


def crossed(images: int) -> Steering:
    def add(graph: Graph, model: Link) -> Link:
        first, second = (all_of(graph, load_adapter(graph, name)) for name in ("shape", "hue"))
        groups = graph.add("RespoDiffCrossGroups", first=first, second=second, first_scale=1.1, second_scale=0.9)
        return fair(graph, model, groups, images)

    return add


def instant(graph: Graph, model: Link, contrast: str) -> Link:
    """The adapter that Instant Concept makes of a preset for ToyWorld."""
    values = CONTRASTS[f"toyworld/{contrast}"]
    words = {
        "groups": "\n".join(f"{name}: {text}" for name, text in values["groups"].items()),
        "neutral": values["neutral"],
        "contexts": "\n".join(values["contexts"]),
        "axis": values.get("axis", ""),
        "category": values.get("category", "fairness"),
    }
    clip = toyworld_clip(graph)
    sampling = {"seeds": 2, "steps": 20, "first_seed": 0, "latent": empty(graph)}
    return graph.add("RespoDiffInstantConcept", model=model, clip=clip, **words, **sampling)


def instant_fair(contrast: str, images: int, strength: float = 1.5) -> Steering:
    def add(graph: Graph, model: Link) -> Link:
        settings = {"concept": "(all of them)", "share": 1.0, "strength": strength}
        adapter = instant(graph, load_toyworld(graph), contrast)
        return fair(graph, model, graph.add("RespoDiffFairGroup", adapter=adapter, **settings), images)

    return add


def instant_safety(graph: Graph, model: Link) -> Link:
    computed = instant(graph, load_toyworld(graph), "hazard")
    return graph.add("RespoDiffSafety", model=model, adapter="(none)", computed=computed, computed_strength=2.0)


def draw_steer(studio: Studio) -> Sheet:
    square = steer("shape", "square")
    rows = [("", [*studio.generate(who), *studio.generate(who, square)]) for who in (DOCTOR, TEACHER)]
    return Sheet(rows, ["without", "square"])


def draw_mix(studio: Studio) -> Sheet:
    def mixed(round_: float, amber: float) -> np.ndarray:
        (image,) = studio.generate(MECHANIC, steer("shape", "round", round_), steer("hue", "amber", amber))
        return image

    return Sheet([(f"amber {y}", [mixed(x, y) for x in (0, 1)]) for y in (0, 1)], ["round 0", "round 1"])


def draw_gender(studio: Studio) -> Sheet:
    rows = [
        ("", [*studio.generate(who, images=2), *studio.generate(who, fair_batch("shape", 2), images=2)])
        for who in (DOCTOR, TEACHER, LAWYER)
    ]
    return Sheet(rows, ["without", "", "with", ""])


def draw_crossed(studio: Studio) -> Sheet:
    drawn = studio.generate(PERSON, crossed(6), images=6)
    return Sheet([("", drawn[:3]), ("", drawn[3:])], [""] * 3)


def draw_hires(studio: Studio) -> Sheet:
    """The second pass has ToyWorld's size, since it is trained on no larger one."""

    def second_pass(prompt: str, *steering: Steering) -> Images:
        graph = Graph()
        model = steered(graph, steering)
        first = sampled(graph, model, prompt, empty(graph, size=3 * SIZE // 4))
        larger = graph.add("LatentUpscaleBy", samples=first, upscale_method="bicubic", scale_by=4 / 3)
        return studio.run(graph, sampled(graph, model, prompt, larger, denoise=0.5))

    square = steer("shape", "square")
    rows = [("", [*second_pass(who), *second_pass(who, square)]) for who in (TEACHER, LAWYER)]
    return Sheet(rows, ["without", "square"])


def draw_sweep(studio: Studio) -> Sheet:
    graph = Graph()
    adapters = {axis: load_adapter(graph, name) for axis, name in (("adapter", "shape"), ("adapter_y", "hue"))}
    strengths = ("0", "0.5", "1")
    swept = graph.add(
        "RespoDiffStrengthSweep",
        model=load_toyworld(graph),
        latent=empty(graph),
        concept="round",
        strengths=", ".join(strengths),
        concept_y="amber",
        strengths_y=", ".join(strengths),
        same_noise=True,
        **adapters,
    )
    drawn = studio.run(graph, sampled(graph, swept, MECHANIC, output(swept, 1)))
    rows = [(f"amber {label}", drawn[3 * row : 3 * row + 3]) for row, label in enumerate(strengths)]
    return Sheet(rows, [f"round {label}" for label in strengths])


def draw_region(studio: Studio) -> Sheet:
    """The concept square in the upper half changes the head; in the lower half, without a head, it does not."""
    rows = []
    for top in (0, SIZE // 2):
        tile = np.full((SIZE, SIZE, 3), BLACK_OF_MASK, np.uint8)
        tile[top : top + SIZE // 2] = 255
        images = [image for who in (TEACHER, LAWYER) for image in studio.generate(who, square_in_half(top))]
        rows.append(("", [tile, *images]))
    return Sheet(rows, ["mask", "square", "square"])


def square_in_half(top: int) -> Steering:
    def add(graph: Graph, model: Link) -> Link:
        none = graph.add("SolidMask", value=0.0, width=SIZE, height=SIZE)
        half = graph.add("SolidMask", value=1.0, width=SIZE, height=SIZE // 2)
        mask = graph.add("MaskComposite", destination=none, source=half, x=0, y=top, operation="add")
        return steer("shape", "square", mask=mask)(graph, model)

    return add


def draw_guard(studio: Studio) -> Sheet:
    rows = []
    for who in ("doctor", "round doctor", "square doctor"):
        prompt = f"a photo of a {who}"
        rows.append((who, studio.generate(prompt, guarded_batch(prompt, 2), images=2)))
    return Sheet(rows, ["", ""])


def draw_app(studio: Studio) -> Sheet:
    """A quarter of one group and three of the other."""

    def fair_shares(graph: Graph, model: Link) -> Link:
        adapter = instant(graph, load_toyworld(graph), "shape")
        groups = {
            f"groups.group{number}": graph.add(
                "RespoDiffFairGroup", adapter=adapter, concept=concept, share=share, strength=1.5
            )
            for number, (concept, share) in enumerate((("round", 1.0), ("square", 3.0)))
        }
        settings = {"none_share": 0.0, "allocation": "balanced", "seed": 0, "batch_size": 4}
        return graph.add("RespoDiffFairBatch", model=model, **groups, **settings)

    images = studio.generate(DOCTOR, fair_shares, images=4)
    return Sheet([("", images[:2]), ("", images[2:])], ["round 1", "square 3"])


def draw_fair_prompts(studio: Studio) -> Sheet:
    def images(prompt: str) -> Images:
        graph = Graph()
        settings = {"groups": "round\nsquare", "none_share": 0.0, "allocation": "balanced", "seed": 1, "batch_size": 3}
        clip = toyworld_clip(graph)
        positive = graph.add("RespoDiffFairPrompts", clip=clip, prompt=prompt, guard=False, **settings)
        return studio.run(graph, sampled(graph, load_toyworld(graph), "", empty(graph, 3), positive=positive))

    return Sheet(
        [("without", studio.generate(TEACHER, images=3)), ("with", images("a photo of a {} teacher"))], [""] * 3
    )


def draw_train(studio: Studio) -> Sheet:
    """After some steps of training, in columns: strength 0, 0.5 and 1."""

    def at(strength: float) -> Steering:
        def add(graph: Graph, model: Link) -> Link:
            adapter = trained_on_toyworld(graph, load_toyworld(graph), 150)
            settings = STEER_DEFAULTS | {"concept": "square", "strength": strength}
            return graph.add("RespoDiffSteer", model=model, adapter=adapter, **settings)

        return add

    rows = [("", [studio.generate(who, at(s))[0] for s in (0.0, 0.5, 1.0)]) for who in (DOCTOR, LAWYER)]
    return Sheet(rows, ["strength 0", "0.5", "1"])


def without_and_with(prompt: str, *steering: Steering) -> Callable[[Studio], Sheet]:
    def drawn(studio: Studio) -> Sheet:
        without, with_ = studio.generate(prompt, images=3), studio.generate(prompt, *steering, images=3)
        return Sheet([("without", without), ("with", with_)], [""] * 3)

    return drawn


THUMBNAILS: dict[str, Callable[[Studio], Sheet]] = {
    WITHOUT_CHECKPOINT.name: without_and_with(DOCTOR, instant_fair("shape", 3, 0.75)),
    INSTANT_FAIRNESS.name: without_and_with(LAWYER, instant_fair("shape", 3)),
    FAIRNESS_APP.name: draw_app,
    INSTANT_SAFETY.name: without_and_with("a photo of a doctor in a mine", instant_safety),
    INSTANT_BOTH.name: without_and_with("a photo of a guard in a mine", instant_safety, instant_fair("shape", 3)),
    FAIR_PROMPTS.name: draw_fair_prompts,
    TRAIN.name: draw_train,
    STEER.name: draw_steer,
    MIX.name: draw_mix,
    GENDER_SD15.name: draw_gender,
    RACE_SDXL_WORKFLOW.name: without_and_with("a photo of a driver", fair_batch("hue", 3)),
    CROSSED.name: draw_crossed,
    SAFE.name: without_and_with("a photo of a person in a mine", safety),
    COMPANY.name: without_and_with("a photo of a person in a mine", safety, fair_batch("shape", 3)),
    HIRES.name: draw_hires,
    SWEEP.name: draw_sweep,
    REGION.name: draw_region,
    GUARD.name: draw_guard,
}


def train_adapters(folder: Path, *names: str) -> None:
    """Train the adapters of these names, or all ADAPTERS."""
    for name in names or ADAPTERS:
        train_adapter(folder / f"{name}.safetensors", ADAPTERS[name])


def thumbnail(sheet: Sheet) -> Image.Image:
    drawn = draw(sheet.rows, sheet.columns, SIDE // len(sheet.columns))
    return ImageOps.pad(drawn, (SIDE, SIDE), Image.Resampling.LANCZOS, BACKGROUND)


def main() -> None:
    wanted = " ".join(sys.argv[1:]).lower()
    with tempfile.TemporaryDirectory() as tmp:
        server = ToyWorldInComfyUI(source_of(NEWEST), Path(tmp))
        names = [workflow.name for workflow in (*WORKFLOWS, WITHOUT_CHECKPOINT) if wanted in workflow.name.lower()]
        if set(names) - {workflow.name for workflow in (*MADE_HERE, WITHOUT_CHECKPOINT)}:
            train_adapters(server.base_directory / "models" / "respodiff")
        with server:
            studio = Studio(Bench(server), load_base(TOYWORLD))
            for name in names:
                print(name)
                folder = TOYWORLD_PACK / "workflows" if name == WITHOUT_CHECKPOINT.name else FOLDER
                thumbnail(THUMBNAILS[name](studio)).save(folder / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
