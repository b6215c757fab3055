"""Graphs on ToyWorld: its model and prompts, this pack's nodes, and adapters trained for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comfy_graph import Graph, Link, output
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run.training import train
from respodiff.trainer.toyworld import TOYWORLD
from respodiff.trainer.toyworld.scenes import HAZARD

STEPS = 50
SIZE = 128  # of ToyWorld's pictures, as ComfyUI counts a latent's 16


def train_adapter(output: Path, concepts: Iterable[str]) -> Path:
    """As anyone would, by ToyWorld's presets."""
    recipe = {
        "base": TOYWORLD,
        "output": str(output),
        "concepts": [{"preset": f"toyworld/{concept}"} for concept in concepts],
        "training": {"device": "cpu"},
        "saving": {"tensorboard": False},
    }
    return train(Recipe.of(recipe))


def load_toyworld(graph: Graph) -> Link:
    return graph.add("ToyWorld")


def toyworld_clip(graph: Graph) -> Link:
    return output(graph.add("ToyWorld"), 1)


def toyworld_vae(graph: Graph) -> Link:
    return output(graph.add("ToyWorld"), 2)


def conditions(graph: Graph, prompts: str) -> dict[str, Link]:
    """For a sampler: one prompt a line, or one for all, against the empty one."""
    return {
        side: graph.add("ToyWorldPrompts", clip=toyworld_clip(graph), prompts=text)
        for side, text in (("positive", prompts), ("negative", ""))
    }


def empty(graph: Graph, images: int = 1, size: int = SIZE) -> Link:
    return graph.add("EmptyLatentImage", width=size, height=size, batch_size=images)


def sampled(
    graph: Graph,
    model: Link,
    prompts: str,
    latent: Link,
    denoise: float = 1.0,
    steps: int = STEPS,
    positive: Link | None = None,
) -> Link:
    """By DDIM, as the paper's protocol has it, for these prompts or a `positive` condition."""
    given = conditions(graph, prompts)
    return graph.add(
        "KSampler",
        model=model,
        **(given if positive is None else {**given, "positive": positive}),
        latent_image=latent,
        seed=17,
        steps=steps,
        cfg=7.5,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        denoise=denoise,
    )


def all_of(graph: Graph, adapter: Link, strength: float = 1.0) -> Link:
    """Every concept of an adapter as a group, in equal shares."""
    return graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=strength)


def guarded(graph: Graph, adapter: Link, prompt: str) -> Link:
    return graph.add("RespoDiffPromptGuard", prompt=prompt, **{"adapters.adapter0": adapter})


def fair(graph: Graph, model: Link, groups: Link, images: int, seed: int = 0) -> Link:
    settings = {"none_share": 0.0, "allocation": "balanced", "seed": seed, "batch_size": images}
    return graph.add("RespoDiffFairBatch", model=model, **{"groups.group0": groups}, **settings)


def safe(graph: Graph, model: Link, file: str) -> Link:
    sliders: dict[str, Any] = {"adapter.concepts": HAZARD, f"adapter.strength of {HAZARD}": 1.0}
    return graph.add("RespoDiffSafety", model=model, adapter=file, **sliders)
