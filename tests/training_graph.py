"""Graphs that train: Train Concept on ToyWorld and on the small models, and what it leaves on disk."""

from __future__ import annotations

import json
from typing import Any

import torch
from comfy_bench import Bench
from comfy_graph import Graph, Link
from respodiff.respodiff_core.adapter.adapter import Adapter, read
from safetensors.torch import load_file
from toyworld_graph import empty, toyworld_clip

SQUARE = {
    "name": "square",
    "target": "a square person",
    "neutral": "a person",
    "negative": "",
    "axis": "shape",
    "ram_rate": 0.03,
    "sam_rate": 0.0045,
    "guidance": 0.0,
}
KINDS = ["plain", "LoRA", "v-prediction", "zero SNR", "fp8", "FreeU", "deep shrink", "EDM"]


def small_model(graph: Graph, kind: str, family: str) -> Link:
    """A small model as the loaders and patches of a graph give it."""
    dtype = "fp8_e4m3fn" if kind == "fp8" else "default"
    return patched(graph, kind, graph.add("UNETLoader", unet_name=f"{family}.safetensors", weight_dtype=dtype))


def patched(graph: Graph, kind: str, model: Link) -> Link:
    """The model with the patch or the sampling that makes it one of KINDS, if any."""
    match kind:
        case "LoRA":
            return graph.add("LoraLoaderModelOnly", model=model, lora_name="sd15.safetensors", strength_model=0.5)
        case "FreeU":
            return graph.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)
        case "deep shrink":
            shrunk = {"block_number": 1, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 1.0}
            methods = {"downscale_method": "bicubic", "upscale_method": "bicubic"}
            return graph.add("PatchModelAddDownscale", model=model, downscale_after_skip=True, **shrunk, **methods)
        case "v-prediction" | "zero SNR":
            discrete = {"sampling": "v_prediction", "zsnr": kind == "zero SNR"}
            return graph.add("ModelSamplingDiscrete", model=model, **discrete)
        case "EDM":
            sigmas = {"sigma_max": 500.0, "sigma_min": 0.03}
            return graph.add("ModelSamplingContinuousEDM", model=model, sampling="v_prediction", **sigmas)
        case "flow":
            return graph.add("ModelSamplingSD3", model=model, shift=3.0)
    return model


def trained(graph: Graph, model: Link, clip: Link, *, steps: int, words: Any = SQUARE, **more: Any) -> Link:
    """The ADAPTER of Train Concept; `words` are the own words, or the name of a preset."""
    settings = {
        "training_seed": 0,
        "batch_size": 4,
        "checkpointing": "auto",
        "preview_prompt": "a photo of a doctor",
        "preview_every": 0,
        **more,
    }
    if isinstance(words, str):
        concept = {"concept": words}
    else:
        concept = {"concept": "(own words)"} | {f"concept.{name}": value for name, value in words.items()}
    return graph.add("RespoDiffTrainConcept", model=model, clip=clip, steps=steps, **concept, **settings)


def trained_on_toyworld(graph: Graph, model: Link, steps: int, **more: Any) -> Link:
    clip = toyworld_clip(graph)
    return trained(graph, model, clip, steps=steps, latent=empty(graph), **more)


def trained_on_small(graph: Graph, model: Link, family: str, steps: int = 16, **more: Any) -> Link:
    latent = graph.add("EmptyLatentImage", width=32, height=32, batch_size=1)
    clip = graph.add("ProbeClip", family=family.partition("_")[0])
    return trained(graph, model, clip, steps=steps, **{"latent": latent, **more})


def saved(bench: Bench, graph: Graph, adapter: Link, name: str) -> Adapter:
    """Run the graph with Save Adapter at its end, and read the file."""
    graph.add("RespoDiffSaveAdapter", adapter=adapter, name=name, dtype="float32", overwrite=True)
    bench.run(graph)
    return read(bench.adapters / f"{name}.safetensors")


def distance(one: Adapter, other: Adapter, name: str = "square") -> float:
    """Between the modules of a concept, relative to their norm."""
    pairs = [
        (getattr(one.concepts[name], role).tensors[""], getattr(other.concepts[name], role).tensors[""])
        for role in ("ram", "sam")
    ]
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


def states(bench: Bench) -> list[dict[str, torch.Tensor]]:
    """The saved states of trainings, the newest first."""
    folder = bench.server.base_directory / "output" / "respodiff" / "training"
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [load_file(file) for file in files]


def weights_of(bench: Bench, kind: str, family: str) -> dict[str, Any]:
    """What a small model is, with its weights' hash, at this moment."""
    graph = Graph()
    graph.add("ProbeWeights", model=small_model(graph, kind, family))
    found: dict[str, Any] = json.loads(bench.run(graph).outputs[graph.id_of("ProbeWeights")]["text"][0])
    return found


def check_training(bench: Bench, kind: str, family: str) -> float:
    """Train on a small model: the loss is lower than without learning on the same states, the weights stay as they
    were. Returns the loss relative to that without learning.
    """
    before = weights_of(bench, kind, family)
    late = []
    for ram_rate in (1e-6, 0.03):
        graph = Graph()
        words = {**SQUARE, "ram_rate": ram_rate}
        found = saved(
            bench, graph, trained_on_small(graph, small_model(graph, kind, family), family, words=words), kind
        )
        late.append(float(states(bench)[0]["losses"][8:, 0].mean()))
    after = weights_of(bench, kind, family)
    assert after == before, f"{before} {after}"
    predicted = "v" if kind in ("v-prediction", "zero SNR", "EDM") else "epsilon"
    assert (found.family, found.prediction) == (family.partition("_")[0], predicted)
    assert late[1] < late[0]
    return late[1] / late[0]
