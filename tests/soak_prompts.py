"""Graphs of a long day: every node of the pack in turn, two families, changing strengths, sizes and seeds.

A graph's twin is what the host alone is asked for by it: the same sampling, without a node of the pack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

from comfy_bench import Bench, load_unet, make_adapter, sample, steer
from comfy_graph import Graph, Link, output
from PIL import Image

SIZES = ((64, 64), (96, 64), (64, 128), (128, 128))
CLIP_FOLDER = "clip_vision/nets/small-clip"


@dataclass(frozen=True)
class Turn:
    """What number, of how many pixels (width, height), and whether the pack's nodes are in it."""

    number: int
    size: tuple[int, int]
    steered: bool

    @property
    def strength(self) -> float:
        return round(-1 + 2 * (self.number * 0.618 % 1), 2)

    def sample(self, graph: Graph, model: Link, family: str = "sd15", **more: object) -> Link:
        return sample(graph, model, family, size=self.size, seed=self.number, **more)


Make = Callable[[Graph, Turn], None]


def prepare(bench: Bench) -> None:
    """The adapters, and a mask, that the graphs name."""
    people = {"category": "fairness", "neutral": "a person"}
    bench.save_adapter(make_adapter("sd15", "woman", "man", **people), "gender.safetensors")
    bench.save_adapter(make_adapter("sd15", "old", seed=30, **people), "age.safetensors")
    bench.save_adapter(make_adapter("sd15", "violence", "hate", seed=40, category="safety"), "safety.safetensors")
    bench.save_adapter(make_adapter("sdxl", "woman", "man", **people), "xl.safetensors")
    replace_adapter(bench, 0)
    Image.new("RGB", (64, 64), (255, 0, 0)).save(bench.server.base_directory / "input" / "mask.png")


def replace_adapter(bench: Bench, number: int) -> None:
    """As a training that writes to the same file again and again."""
    bench.save_adapter(make_adapter("sd15", "woman", seed=100 + number), "changing.safetensors")


def graphs(steered: bool) -> Iterator[Graph]:
    """Without end, and each another one."""
    for number, make in enumerate(cycle(MAKERS)):
        graph = Graph()
        make(graph, Turn(number, SIZES[number % len(SIZES)], steered))
        yield graph


def load(graph: Graph, file: str) -> Link:
    return graph.add("RespoDiffLoadAdapter", adapter=f"{file}.safetensors")


def steer_one(graph: Graph, turn: Turn) -> None:
    model = load_unet(graph, "sd15")
    if turn.steered:
        model = steer(graph, model, load(graph, "gender"), "woman", turn.strength)
        model = steer(graph, model, load(graph, "changing"), "woman", 0.5, start_percent=0.2, curve="fade in")
    turn.sample(graph, model)


def steer_xl(graph: Graph, turn: Turn) -> None:
    model = load_unet(graph, "sdxl")
    if turn.steered:
        model = steer(graph, model, load(graph, "xl"), "man", turn.strength)
    turn.sample(graph, model, "sdxl", steps=1)


def mix(graph: Graph, turn: Turn) -> None:
    model = load_unet(graph, "sd15")
    if turn.steered:
        sliders = {"adapter.strength of woman": turn.strength, "adapter.strength of man": -turn.strength}
        values = {"adapter": "gender.safetensors", "adapter.concepts": "woman | man"}
        model = graph.add("RespoDiffConceptMixer", model=model, **values, **sliders)
        sliders = {"adapter.strength of violence": abs(turn.strength), "adapter.strength of hate": 0.5}
        values = {"adapter": "safety.safetensors", "adapter.concepts": "violence | hate"}
        model = graph.add("RespoDiffSafety", model=model, **values, **sliders)
    turn.sample(graph, model)


def steer_masked(graph: Graph, turn: Turn) -> None:
    model = load_unet(graph, "sd15")
    if turn.steered:
        mask = graph.add("LoadImageMask", image="mask.png", channel="red")
        model = steer(graph, model, load(graph, "age"), "old", turn.strength, mask=mask)
    turn.sample(graph, model)


def be_fair(graph: Graph, turn: Turn) -> None:
    """Fair Batch of crossed groups, guarded by the prompt; pictures saved and counted."""
    model, batch = load_unet(graph, "sd15"), 2 + turn.number % 3
    if turn.steered:
        prompt = ("a doctor", "a male doctor", "a town")[turn.number % 3]
        guarded = graph.add("RespoDiffPromptGuard", prompt=prompt, **{"adapters.adapter0": load(graph, "gender")})
        gender, age = (
            graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=turn.strength)
            for adapter in (guarded, load(graph, "age"))
        )
        both = graph.add("RespoDiffCrossGroups", first=gender, second=age, first_scale=1.0, second_scale=1.0)
        settings = {"none_share": 1.0, "allocation": "balanced", "seed": turn.number, "batch_size": batch}
        model = graph.add("RespoDiffFairBatch", model=model, **settings, **{"groups.group0": both})
    turn.sample(graph, model, batch=batch)
    images = pictures(graph, turn.number, batch)
    if turn.steered:
        names = output(model, 2)
        graph.add("RespoDiffSaveImages", images=images, names=names, filename_prefix="soak/picture")
        settings = {"classes": "woman\nman", "clip_folder": CLIP_FOLDER, "accumulate": True, "series": 0}
        meter = graph.add("RespoDiffBiasMeter", images=images, names=names, **settings)
        graph.add("RespoDiffGrid", images=images, labels=output(meter, 4))
    else:
        graph.add("SaveImage", images=images, filename_prefix="soak/picture")


def sweep(graph: Graph, turn: Turn) -> None:
    model, strengths = load_unet(graph, "sd15"), 2 + turn.number % 4
    if not turn.steered:
        sample(graph, model, "sd15", batch=strengths, seed=turn.number)
        return
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    settings = {"same_noise": True, "concept_y": "(the only one)", "strengths_y": "0, 1"}
    swept = graph.add(
        "RespoDiffStrengthSweep",
        model=model,
        adapter=load(graph, "gender"),
        concept="man",
        strengths=f"0 to {abs(turn.strength)} in {strengths}",
        latent=latent,
        **settings,
    )
    sample(graph, swept, "sd15", latent_image=output(swept, 1), seed=turn.number)
    graph.add("RespoDiffGrid", images=pictures(graph, turn.number, strengths), sweep=output(swept, 2))


def combine(graph: Graph, turn: Turn) -> None:
    model = load_unet(graph, "sd15")
    if turn.steered:
        parts = {"adapter_a": load(graph, "gender"), "adapter_b": load(graph, "age")}
        both = graph.add(
            "RespoDiffCombineAdapters", **parts, strength_a=abs(turn.strength), strength_b=1.0, as_one="both"
        )
        graph.add("RespoDiffSaveAdapter", adapter=both, name="soak/both", overwrite=True, dtype="float16")
        graph.add("RespoDiffInspectAdapter", adapter=both)
        model = steer(graph, model, both, "both")
    turn.sample(graph, model)


def pictures(graph: Graph, number: int, batch: int) -> Link:
    """A batch of pictures of one colour: a VAE would be the slow part, and is none of the pack's."""
    return graph.add("EmptyImage", width=64, height=64, batch_size=batch, color=number * 4099 % 0xFFFFFF)


MAKERS: tuple[Make, ...] = (steer_one, mix, be_fair, steer_xl, steer_masked, sweep, combine)
