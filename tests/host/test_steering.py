"""Steering a real model through a real server: what is added, where, and to whom."""

from __future__ import annotations

import json

import pytest
import torch
from comfy_bench import (
    Bench,
    load_unet,
    make_adapter,
    make_both,
    make_contrast,
    relative,
    sample,
    steer,
    tolerance,
    vector_of,
)
from comfy_graph import Graph
from respodiff.respodiff_core.adapter.adapter import merge


def steered(bench: Bench, family: str, *steps: tuple[str, float], **sampling) -> torch.Tensor:
    """The latent after chaining Steer (concept, strength) nodes on test.safetensors."""
    graph = Graph()
    model = load_unet(graph, family)
    if steps:
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        for concept, strength in steps:
            model = steer(graph, model, adapter, concept, strength)
    sample(graph, model, family, **sampling)
    return bench.latent(graph)


def recorded(bench: Bench, family: str, concept: str | None, batch: int = 1, **how) -> list[dict[str, torch.Tensor]]:
    """What happens at h in a run with (or without) one Steer node."""
    graph = Graph()
    model = load_unet(graph, family)
    if concept:
        model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"), concept, **how)
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), family, batch=batch)
    bench.run(graph)
    return bench.record()


def test_strength_zero_is_the_unpatched_run_bit_for_bit(bench, family):
    bench.save_adapter(make_both(family))
    assert torch.equal(steered(bench, family, ("woman", 0.0), ("old", 0.0)), steered(bench, family))


@pytest.mark.parametrize("strength", [1.0, -0.7])
def test_strength_s_is_adding_s_times_ram_plus_sam_by_hand(bench, family, strength):
    adapter = make_adapter(family)
    bench.save_adapter(adapter)
    graph = Graph()
    vector = bench.save_vector(strength * vector_of(adapter))
    reference = graph.add("ProbeReference", model=load_unet(graph, family), tensor_file=vector)
    sample(graph, reference, family, seed=11)
    by_hand = bench.latent(graph)
    assert relative(steered(bench, family, ("woman", strength), seed=11), by_hand) <= tolerance(bench, family)
    assert relative(steered(bench, family, seed=11), by_hand) > 1e-3, "the test's vector must matter"


def test_ram_and_sam_have_strengths_of_their_own(bench, family):
    adapter = make_adapter(family)
    bench.save_adapter(adapter)
    call = recorded(bench, family, "woman", ram_strength=0.25, sam_strength=-2.0, strength=0.5)[0]
    added = call["after"] - call["before"]
    expected = vector_of(adapter, ram=0.125, sam=-1.0)
    torch.testing.assert_close(added[call["condition"] == 1][0], expected, rtol=1e-4, atol=1e-5)


def test_two_chained_nodes_are_one_with_the_sum_in_either_order(bench, family):
    adapter = make_adapter(family, "a", "b")
    bench.save_adapter(adapter)
    ab = steered(bench, family, ("a", 1.0), ("b", 0.5))
    ba = steered(bench, family, ("b", 0.5), ("a", 1.0))
    graph = Graph()
    vector = bench.save_vector(vector_of(adapter, "a") + 0.5 * vector_of(adapter, "b"))
    sample(graph, graph.add("ProbeReference", model=load_unet(graph, family), tensor_file=vector), family)
    once = bench.latent(graph)
    assert relative(ab, once) <= tolerance(bench, family)
    assert relative(ba, once) <= tolerance(bench, family)


def test_both_kinds_of_concepts_chain_in_any_order(bench):
    bench.save_adapter(merge([make_adapter("sd15"), make_contrast("sd15"), make_contrast("sd15", "young", 7)]))
    order = [("woman", 0.8), ("old", 1.0), ("young", -0.5)]
    assert relative(steered(bench, "sd15", *order), steered(bench, "sd15", *reversed(order))) <= tolerance(
        bench, "sd15"
    )


def test_only_the_positive_prompts_rows_are_touched(bench, family):
    bench.save_adapter(make_adapter(family))
    first, plain = recorded(bench, family, "woman")[0], recorded(bench, family, None)[0]
    negative = first["condition"] == 2
    assert torch.equal(first["after"][negative], first["before"][negative])
    assert not torch.equal(first["after"][~negative], first["before"][~negative])
    assert torch.equal(first["prediction1"], plain["prediction1"]), "the unconditional prediction"
    assert not torch.equal(first["prediction0"], plain["prediction0"]), "the conditional prediction"


def test_the_model_that_came_in_stays_as_it_is(bench, family):
    """One graph, one loader: sampled plain, steered, plain again; then plain once more in a graph of its own."""
    bench.save_adapter(make_adapter(family))
    graph = Graph()
    model = load_unet(graph, family)
    steered_model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"))
    last = graph.add("ProbeDescribe", model=model)
    saves = []
    for used, seed in ((model, 101), (steered_model, 101), (model, 102)):
        sample(graph, used, family, seed=seed)
        saves.append(str(len(graph)))
    outputs = bench.run(graph).outputs
    before, with_steering, after = (bench.saved_latent(outputs[node]) for node in saves)
    described = json.loads(outputs[last[0]]["text"][0])
    assert described["patches"] == {}
    assert described["wrappers"] == {}
    assert not torch.equal(before, with_steering)
    bench.server.free_memory()
    assert torch.equal(steered(bench, family, seed=101), before)
    assert torch.equal(steered(bench, family, seed=102), after)


def test_image_i_of_a_batch_is_its_single_run(bench, family):
    bench.save_adapter(make_both(family))
    batch = steered(bench, family, ("woman", 1.0), ("old", 1.0), batch=3)
    for index in range(3):
        graph = Graph()
        model = load_unet(graph, family)
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        model = steer(graph, steer(graph, model, adapter), adapter, "old")
        three = graph.add("EmptyLatentImage", width=64, height=64, batch_size=3)
        one = graph.add("LatentFromBatch", samples=three, batch_index=index, length=1)
        sample(graph, model, family, latent_image=one)
        assert relative(bench.latent(graph)[0], batch[index]) <= tolerance(bench, family)


@pytest.mark.parametrize("kind", ["channel", "mlp", "conv"])
def test_the_ablations_module_kinds_are_added_too(bench, kind):
    from respodiff.respodiff_core.adapter.adapter import Adapter
    from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
    from respodiff.respodiff_core.adapter.transforms import PARAMETERS, Transform

    sizes = {"C": 320, "M": 16}
    generator = torch.Generator().manual_seed(5)
    module = Transform.of(
        {
            name: 0.1 * torch.randn([sizes[s] if isinstance(s, str) else s for s in shape], generator=generator)
            for name, shape in PARAMETERS[kind].items()
        }
    )
    bench.save_adapter(Adapter("sd15", {"woman": ModuleConcept(ConceptInfo("woman"), module, module)}))
    for call in recorded(bench, "sd15", "woman", strength=0.5):
        positive = call["condition"] == 1
        expected = call["before"][positive] + module(call["before"][positive])
        torch.testing.assert_close(call["after"][positive], expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(call["after"][~positive], call["before"][~positive])


@pytest.mark.parametrize("size", [(128, 64), (64, 192), (96, 96), (72, 64)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_any_latent_size_is_steered(bench, size):
    """Not square, not native, not even a multiple of what the UNet halves."""
    adapter = make_adapter("sd15")
    bench.save_adapter(adapter)
    graph = Graph()
    model = steer(graph, load_unet(graph, "sd15"), graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"))
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), "sd15", size=size)
    bench.run(graph)
    call = bench.record()[0]
    added = (call["after"] - call["before"])[call["condition"] == 1][0]
    assert added.shape[1:] == call["before"].shape[2:]
    field = sum(m.field(*added.shape[1:]) for m in (adapter.concepts["woman"].ram, adapter.concepts["woman"].sam))
    torch.testing.assert_close(added, field, rtol=1e-3, atol=1e-4)


def test_a_hires_pass_of_another_size_uses_the_same_model(bench):
    bench.save_adapter(make_adapter("sd15"))
    graph = Graph()
    model = steer(graph, load_unet(graph, "sd15"), graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"))
    positive, negative = (graph.add("ProbeCondition", seed=s, family="sd15", tokens=77) for s in (1, 2))
    common = {"model": model, "seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}
    common |= {"positive": positive, "negative": negative}
    small = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    first = graph.add("KSampler", latent_image=small, denoise=1.0, **common)
    large = graph.add("LatentUpscale", samples=first, upscale_method="bilinear", width=128, height=96, crop="disabled")
    second = graph.add("KSampler", latent_image=large, denoise=0.5, **common)
    graph.add("SaveLatent", samples=second, filename_prefix="latent")
    once = bench.latent(graph)
    assert once.shape[2:] == (12, 16)
    assert torch.isfinite(once).all()
