"""Instant Concept in a real ComfyUI: the adapter that the command line makes, without leaving the graph."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_bench import Bench, relative, sample, steer
from comfy_graph import Graph, Link, output
from respodiff.respodiff_core.adapter.adapter import Adapter, read
from respodiff.respodiff_core.adapter.contrast import LowRankMap
from respodiff.respodiff_core.learning.contrast_presets import contrast_values
from respodiff.trainer.base.model import load_base
from respodiff.trainer.recipes.contrast_recipe import assemble_contrast
from respodiff.trainer.run.contrast import contrast
from respodiff.trainer.toyworld import TOYWORLD
from respodiff.trainer.toyworld.classifier import classify
from respodiff.trainer.toyworld.host import ToyWorldInComfyUI
from respodiff.trainer.toyworld.scenes import PROFESSIONS, SHAPES
from toyworld_graph import all_of, conditions, empty, fair, load_toyworld, sampled, toyworld_clip

PROBES = Path(__file__).parent / "probe_nodes"
GROUPS = "round: round\nsquare: square"
CONTEXTS = ("a {} person", "a {} nurse", "a {} farmer")
STEPS, SEEDS = 4, 2


@pytest.fixture(scope="module")
def bench(host, tmp_path_factory) -> Iterator[Bench]:
    server = ToyWorldInComfyUI(host, tmp_path_factory.mktemp("toyworld"))
    server.link_node_pack(PROBES, "probe_nodes")
    with server:
        yield Bench(server)


def instant(graph: Graph, model: Link, **changes: Any) -> Link:
    settings = {
        "groups": GROUPS,
        "neutral": "",
        "contexts": "\n".join(CONTEXTS),
        "axis": "shape",
        "category": "fairness",
        "seeds": SEEDS,
        "steps": STEPS,
        "first_seed": 0,
    }
    clip = toyworld_clip(graph)
    return graph.add("RespoDiffInstantConcept", model=model, clip=clip, latent=empty(graph), **{**settings, **changes})


def matrix(one: LowRankMap) -> torch.Tensor:
    """The affine map, which stays the same if direction and reading both change their sign."""
    assert one.reading is not None
    read = torch.cat([one.level[..., None], one.reading[..., 0, 0]], -1)
    return torch.einsum("prc,prd->cd", one.direction[..., 0, 0], read)


def saved(bench: Bench, graph: Graph, adapter: Link, name: str) -> Adapter:
    graph.add("RespoDiffSaveAdapter", adapter=adapter, name=name, dtype="float32", overwrite=False)
    bench.run(graph)
    return read(next(bench.adapters.rglob(f"{name}*.safetensors")))


def test_it_is_the_adapter_that_the_command_line_makes(bench, tmp_path):
    graph = Graph()
    found = saved(bench, graph, instant(graph, load_toyworld(graph)), "instant")
    table = {"groups": {"round": "round", "square": "square"}, "neutral": "", "contexts": list(CONTEXTS)}
    table |= {"axis": "shape", "seeds": SEEDS, "schedule_steps": STEPS}
    top = {"base": TOYWORLD, "output": tmp_path / "shape.safetensors"}
    path = contrast(assemble_contrast(None, top=top, preset=None, sections={"contrast": table}))
    expected = read(path)
    assert found.concepts.keys() == expected.concepts.keys()
    assert (found.family, found.prediction) == (expected.family, expected.prediction)
    for name, concept in expected.concepts.items():
        one = found.concepts[name]
        assert (one.sites, one.operation, one.info.axis) == (concept.sites, concept.operation, "shape")
        for site, maps in concept.layers.items():
            size = matrix(maps["set"]).norm()
            for part, expected_map in maps.items():
                difference = matrix(one.layers[site][part]) - matrix(expected_map)
                assert difference.norm() < 1e-2 * size, f"{name} at {site}.{part}"


def test_steering_by_it_needs_no_file(bench):
    def latent(strength: float) -> torch.Tensor:
        graph = Graph()
        model = load_toyworld(graph)
        steered = steer(graph, model, instant(graph, model), "square", strength)
        sample(graph, steered, "toyworld", latent_image=empty(graph), **conditions(graph, "a photo of a doctor"))
        return bench.latent(graph)

    plain = latent(0.0)
    assert relative(latent(1.0), plain) > 1e-2
    assert torch.equal(latent(0.0), plain)


def test_safety_takes_it_without_a_file(bench):
    graph = Graph()
    model = load_toyworld(graph)
    words = {"groups": "hazard: with a hazard", "contexts": "a person in a mine {}", "category": "safety", "axis": ""}
    steering = {"computed": instant(graph, model, **words), "computed_strength": 1.0, "adapter": "(none)"}
    safe = graph.add("RespoDiffSafety", model=model, **steering)
    graph.add("ProbeDescribe", model=safe)
    described = json.loads(bench.run(graph).outputs[graph.id_of("ProbeDescribe")]["text"][0])
    assert "attn2_output_patch" in described["patches"]
    graph = Graph()
    model = load_toyworld(graph)
    graph.add(
        "ProbeDescribe",
        model=graph.add("RespoDiffSafety", model=model, **{**steering, "computed": instant(graph, model)}),
    )
    assert "Instant Concept has no safety concept" in bench.error(graph).message


def test_a_steered_model_is_measured_as_if_it_was_not(bench):
    graph = Graph()
    model = load_toyworld(graph)
    alone = instant(graph, model)
    after = instant(graph, steer(graph, model, alone, "square", 2.0), axis="other")
    graph.add("RespoDiffSaveAdapter", adapter=after, name="after", dtype="float32", overwrite=False)
    first = saved(bench, graph, alone, "alone")
    second = read(next(bench.adapters.rglob("after*.safetensors")))
    for key, tensor in first.concepts["round"].tensors().items():
        assert torch.equal(second.concepts["round"].tensors()[key], tensor)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"groups": ""}, "there is no group"),
        ({"groups": "round: round\nround: square"}, "The group 'round' is listed twice"),
        ({"groups": "round: round\nball: round"}, "the prompts must all differ"),
        ({"contexts": "a person"}, "a context has no {}"),
        ({"contexts": ""}, "a context has no {}"),
        ({"groups": "\n".join(f"{n}: {n}" for n in range(64))}, "there are 64 groups; at most 16"),
        ({"groups": "one: round\ntwo: ROUND"}, "The words of group 'one' make no difference to this model"),
    ],
)
def test_bad_input_is_a_sentence(bench, changes, said):
    graph = Graph()
    steered = instant(graph, load_toyworld(graph), **changes)
    graph.add("RespoDiffInspectAdapter", adapter=steered)
    assert said in bench.error(graph).message


def test_a_batch_of_professions_becomes_fair_in_one_queue(bench):
    """The node, Fair Batch and a sampler in one graph: professions that none of the contexts has."""
    professions = [who for who in PROFESSIONS[::2] for _ in range(6)]
    graph = Graph()
    model = load_toyworld(graph)
    contexts = "\n".join(contrast_values("toyworld/shape")["contexts"])
    adapter = instant(graph, model, contexts=contexts, seeds=1, steps=12)
    model = fair(graph, model, all_of(graph, adapter, strength=1.5), len(professions), seed=5)
    shown = graph.add("PreviewAny", source=output(model, 2))
    texts = "\n".join(f"a photo of a {who}" for who in professions)
    latent = sampled(graph, model, texts, empty(graph, len(professions)), steps=25)
    graph.add("SaveLatent", samples=latent, filename_prefix="fair")
    outputs = bench.run(graph).outputs
    given = [SHAPES.index(name) for name in outputs[shown[0]]["text"][0].splitlines()]
    base = load_base(TOYWORLD)
    with torch.inference_mode():
        latents = bench.saved_latent(outputs[graph.id_of("SaveLatent")]) * base.latent_scale
        seen = classify(base.decode_latents(latents))
    assert (seen.shape == np.array(given)).mean() >= 0.95
    assert (seen.profession == np.array([PROFESSIONS.index(who) for who in professions])).mean() >= 0.97
