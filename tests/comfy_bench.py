"""What host tests do with a running server: adapters for the small models, graphs, and a look at results."""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from adapters import random_contrast
from comfy_graph import Graph, Link
from respodiff.respodiff_core.adapter.adapter import Adapter, merge, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.trainer.comfyui.outputs import NodeError, Result
from respodiff.trainer.comfyui.server import ComfyServer
from safetensors.torch import load_file, save_file

# A prompt's tokens: with CLIP's 77, reading the prompt would be nine tenths of the small UNets' work.
TOKENS = 8
# h of a 64 x 64 pixel image in the small UNets (channels, height, width).
H_SHAPE = {"sd15": (320, 4, 4), "sd15_wide": (1280, 4, 4), "sdxl": (320, 2, 2)}


@dataclass(frozen=True)
class Bench:
    """A running server and what tests do with it."""

    server: ComfyServer

    @property
    def adapters(self) -> Path:
        return self.server.base_directory / "models" / "respodiff"

    def run(self, graph: Graph) -> Result:
        return self.server.run(graph)

    def error(self, graph: Graph) -> NodeError:
        """The error a graph is expected to end with."""
        result = self.server.run(graph, check=False)
        assert result.error is not None, "the graph was expected to fail"
        return result.error

    def latent(self, graph: Graph) -> torch.Tensor:
        """Run a graph with one SaveLatent and read what it saved."""
        return self.saved_latent(self.run(graph).outputs[graph.id_of("SaveLatent")])

    def saved_latent(self, output: dict[str, Any]) -> torch.Tensor:
        """What one SaveLatent node saved."""
        (saved,) = output["latents"]
        return load_file(self.server.output_path(saved))["latent_tensor"]

    def interrupt_midway(self, graph: Graph) -> int:
        """Run a graph with one ProbeSteps, stop it in the UNet's second call; how many calls there were in the end."""
        inputs = graph[graph.id_of("ProbeSteps")]["inputs"]
        inputs["wait_at"] = 2
        steps = self.server.base_directory / "output" / f"{inputs['name']}.steps"
        there, go = steps.with_suffix(".there"), steps.with_suffix(".go")
        os.mkfifo(there)
        os.mkfifo(go)
        prompt = self.server.queue(graph)
        with open(there, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as pipe:
            assert select.select([pipe], [], [], 300)[0], "sampling has not come there"
        self.server.interrupt()
        go.write_bytes(b"")
        result = self.server.wait(prompt)
        assert result.status == "interrupted"
        assert result.error is not None
        assert result.error.node_type == "KSampler"
        return steps.stat().st_size

    def record(self, name: str = "record") -> list[dict[str, torch.Tensor]]:
        """What ProbeRecord saved in the last run: one dict per UNet call."""
        calls: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(self.server.base_directory / "output" / f"{name}.safetensors").items():
            call, _, what = key.partition(".")
            calls.setdefault(call, {})[what] = tensor
        return [calls[call] for call in sorted(calls)]

    def save_vector(self, vector: torch.Tensor, name: str = "vector.safetensors") -> str:
        save_file({"vector": vector.contiguous()}, self.server.base_directory / "input" / name)
        return name

    def save_adapter(self, adapter: Adapter, name: str = "test.safetensors") -> str:
        write(adapter, self.adapters / name)
        return name


def make_adapter(family: str, *names: str, scale: float = 1.0, seed: int = 0, **info: Any) -> Adapter:
    """Random constants of the small UNet's h-space, each concept another."""
    concepts = {}
    for name in names or ("woman",):
        seed += 1
        generator = torch.Generator().manual_seed(seed)
        ram, sam = (
            Transform.of({"": scale * s * torch.randn(H_SHAPE[family], generator=generator)}) for s in (1.0, 0.5)
        )
        concepts[name] = ModuleConcept(ConceptInfo(name, **info), ram, sam)
    return Adapter(family.partition("_")[0], concepts, "epsilon")


# The cross-attention layers of the small UNets, the first of them first.
LAYERS = {
    "sd15_wide": ["input.1.0"],
    "sd15": [f"{block}.0" for block in ("input.1", "input.3", "middle.0", *(f"output.{n}" for n in range(4)))],
    "sdxl": [
        *(f"input.{block}.{depth}" for block, depths in ((4, 2), (5, 2), (7, 10), (8, 10)) for depth in range(depths)),
        *(f"middle.0.{depth}" for depth in range(10)),
        *(f"output.{block}.{depth}" for block in range(6) for depth in range(10 if block < 3 else 2)),
    ],
}


def make_contrast(family: str, name: str = "old", seed: int = 50, **how: Any) -> Adapter:
    """Random vectors at every cross-attention layer of the small UNet."""
    concept = random_contrast(name, sites=dict.fromkeys(LAYERS[family], 320), seed=seed, **how)
    vectors = ("direction", "reading")
    tensors = {key: 0.05 * one if key.endswith(vectors) else one for key, one in concept.tensors().items()}
    small = ContrastConcept.of(concept.info, tensors, concept.operation, concept.sigmas)
    return Adapter(family.partition("_")[0], {name: small}, "epsilon")


def make_both(family: str) -> Adapter:
    """A concept of either kind: `woman` acts at h, `old` at the cross-attention layers."""
    return merge([make_adapter(family), make_contrast(family)])


def moved(concept: ContrastConcept, site: str, x: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """What a contrast concept without places adds to what the layer adds, by hand."""
    total = torch.zeros_like(x)
    for part, one in concept.layers[site].items():
        assert one.reading is not None
        weight = strength if part == "set" else min(abs(strength), 1.0)
        for level, reading, direction in zip(one.level[0], one.reading[0], one.direction[0], strict=True):
            total += weight * (level + x @ reading[:, 0, 0])[..., None] * direction[:, 0, 0]
    return total


def vector_of(adapter: Adapter, name: str = "woman", ram: float = 1.0, sam: float = 1.0) -> torch.Tensor:
    """What a concept adds to h, by hand."""
    concept = adapter.concepts[name]
    assert isinstance(concept, ModuleConcept)
    return ram * concept.ram.tensors[""] + sam * concept.sam.tensors[""]


def load_unet(graph: Graph, family: str) -> Link:
    return graph.add("UNETLoader", unet_name=f"{family}.safetensors", weight_dtype="default")


def steer(graph: Graph, model: Link, adapter: Link, concept: str = "woman", strength: float = 1.0, **more: Any) -> Link:
    return graph.add(
        "RespoDiffSteer", **(STEER_DEFAULTS | more), model=model, adapter=adapter, concept=concept, strength=strength
    )


STEER_DEFAULTS = {
    "ram_strength": 1.0,
    "sam_strength": 1.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
    "prompt": "positive",
}


def sample(
    graph: Graph, model: Link, family: str, *, size: tuple[int, int] = (64, 64), batch: int = 1, **more: Any
) -> Link:
    """KSampler on two known conditions (1 positive, 2 negative) and SaveLatent; returns the latent."""
    settings: dict[str, Any] = {
        "seed": 7,
        "steps": 2,
        "cfg": 4.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "positive": ["condition", 1],
        "negative": ["condition", 2],
    } | more
    for prompt in ("positive", "negative"):
        if settings[prompt][0] == "condition":
            settings[prompt] = graph.add(
                "ProbeCondition", seed=settings[prompt][1], family=family.partition("_")[0], tokens=TOKENS
            )
    if "latent_image" not in settings:
        width, height = size
        settings["latent_image"] = graph.add("EmptyLatentImage", width=width, height=height, batch_size=batch)
    latent = graph.add("KSampler", model=model, **settings)
    graph.add("SaveLatent", samples=latent, filename_prefix="latent")
    return latent


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """How far a is from b, in norms of b."""
    return ((a - b).norm() / b.norm()).item()


@cache
def tolerance(bench: Bench, family: str) -> float:
    """By how much (relative) a result may differ from another that should be the same.

    1e-5, or, where the host itself rounds more on this CPU, twice that: what it does to a batch of 12 beside its images
    alone, unsteered.
    """
    graph = Graph()
    sample(graph, load_unet(graph, family), family, batch=12, seed=12)
    batch = bench.latent(graph)
    rounding = 0.0
    for image in (0, 5, 11):
        graph = Graph()
        empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=12)
        one = graph.add("LatentFromBatch", samples=empty, batch_index=image, length=1)
        sample(graph, load_unet(graph, family), family, latent_image=one, seed=12)
        rounding = max(rounding, relative(batch[image : image + 1], bench.latent(graph)))
    assert rounding < 5e-5, "the host's batches are not its images"
    return max(1e-5, 2 * rounding)
