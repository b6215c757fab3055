"""The gate in a real ComfyUI: images whose prompt names a group are left alone, all others steered as without it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfy_bench import TOKENS, Bench, load_unet, make_adapter, make_contrast, sample, steer
from comfy_graph import Graph, Link
from respodiff.respodiff_core.adapter.adapter import Adapter, merge
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.adapter.gate import Gate

NEUTRAL, NAMED = 1, 5
WIDTH = {"sd15": 768, "sdxl": 2048}


def gated(family: str, *names: str) -> Adapter:
    """Contrast concepts whose gate knows a token of the prompt NAMED."""
    generator = torch.Generator().manual_seed(NAMED)
    token = torch.randn(1, TOKENS, WIDTH[family], generator=generator)[0, 3]
    gate = Gate(torch.zeros_like(token), token[None] / token.norm(), torch.tensor([-0.3]))
    parts = []
    for number, name in enumerate(names):
        adapter = make_contrast(family, name, 50 + number, category="fairness", axis="age")
        concept = adapter.concepts[name]
        assert isinstance(concept, ContrastConcept)
        concept = replace(concept, gate=gate)
        parts.append(Adapter(adapter.family, {name: concept}, adapter.prediction))
    return merge(parts)


def condition(graph: Graph, family: str, seed: int) -> Link:
    return graph.add("ProbeCondition", seed=seed, family=family, tokens=TOKENS)


def latent(bench: Bench, family: str, prompt: int, strength: float = 1.0, **how) -> torch.Tensor:
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    model = steer(graph, load_unet(graph, family), adapter, "old", strength, **how)
    sample(graph, model, family, positive=condition(graph, family, prompt))
    return bench.latent(graph)


@pytest.mark.parametrize("window", [{}, {"end_percent": 0.8, "curve": "fade out"}])
def test_a_prompt_that_names_a_group_is_left_alone_bit_for_bit(bench, family, window):
    bench.save_adapter(gated(family, "old"))
    assert torch.equal(latent(bench, family, NAMED, gate=True, **window), latent(bench, family, NAMED, 0.0))
    steered = latent(bench, family, NEUTRAL, **window)
    assert torch.equal(latent(bench, family, NEUTRAL, gate=True, **window), steered)
    assert not torch.equal(steered, latent(bench, family, NEUTRAL, 0.0))
    assert not torch.equal(latent(bench, family, NAMED, **window), latent(bench, family, NAMED, 0.0))


def test_each_of_several_prompts_is_read_by_itself(bench):
    bench.save_adapter(gated("sd15", "old"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    model = steer(graph, load_unet(graph, "sd15"), adapter, "old", gate=True)
    both = graph.add(
        "ConditioningCombine",
        conditioning_1=condition(graph, "sd15", NEUTRAL),
        conditioning_2=condition(graph, "sd15", NAMED),
    )
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), "sd15", positive=both)
    bench.run(graph)
    seen = set()
    for call in bench.record():
        for row, of in enumerate(call["condition"].tolist()):
            is_steered = not torch.equal(call["layer_before"][row], call["layer_after"][row])
            seen.add((int(of), is_steered))
    assert seen == {(NEUTRAL, True), (NAMED, False), (2, False)}


def test_fair_batch_leaves_them_alone_too(bench):
    bench.save_adapter(gated("sd15", "old", "young"))

    def fair(prompt: int, gate: bool, none_share: float = 0.0) -> torch.Tensor:
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        groups = graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=1.0)
        settings = {"none_share": none_share, "allocation": "balanced", "seed": 0, "batch_size": 2, "gate": gate}
        model = graph.add("RespoDiffFairBatch", model=load_unet(graph, "sd15"), **{"groups.group0": groups}, **settings)
        sample(graph, model, "sd15", batch=2, positive=condition(graph, "sd15", prompt))
        return bench.latent(graph)

    plain = fair(NAMED, gate=False, none_share=1000.0)
    assert torch.equal(fair(NAMED, gate=True), plain)
    assert not torch.equal(fair(NAMED, gate=False), plain)
    assert torch.equal(fair(NEUTRAL, gate=True), fair(NEUTRAL, gate=False))


def test_a_concept_of_respodiff_has_no_gate(bench):
    bench.save_adapter(make_adapter("sd15"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    sample(graph, steer(graph, load_unet(graph, "sd15"), adapter, "woman", gate=True), "sd15")
    assert "'woman' has no gate" in bench.error(graph).message
