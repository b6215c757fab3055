"""In company: ControlNet, LoRA, FreeU, other patches, compiled models and other dtypes, before or after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_bench import LAYERS, Bench, load_unet, make_both, moved, sample, steer, vector_of
from comfy_graph import Graph, Link


def patch(graph: Graph, name: str, model: Link) -> Link:
    match name:
        case "FreeU":
            return graph.add("FreeU", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)
        case "FreeU_V2":
            return graph.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)
        case "LoRA":
            return graph.add("LoraLoaderModelOnly", model=model, lora_name="sd15.safetensors", strength_model=0.5)
        case "middle-block patch":
            return graph.add("ProbeMiddlePatch", model=model)
        case "PAG":
            return graph.add("PerturbedAttentionGuidance", model=model, scale=2.0)
        case "rescale":
            return graph.add("RescaleCFG", model=model, multiplier=0.7)
        case "deep shrink":
            return graph.add(
                "PatchModelAddDownscale",
                model=model,
                block_number=1,
                downscale_factor=2.0,
                start_percent=0.0,
                end_percent=0.5,
                downscale_after_skip=True,
                downscale_method="bicubic",
                upscale_method="bicubic",
            )
    raise AssertionError(name)


def steer_both(graph: Graph, model: Link, strength: float = 1.0) -> Link:
    """At h and at the cross-attention layers."""
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    for concept in ("woman", "old"):
        model = steer(graph, model, adapter, concept, strength)
    return model


def latent_with(bench: Bench, order: list[str], family: str = "sd15", **sampling: Any) -> torch.Tensor:
    graph = Graph()
    model = load_unet(graph, family)
    for name in order:
        model = steer_both(graph, model) if name == "steer" else patch(graph, name, model)
    sample(graph, model, family, **sampling)
    return bench.latent(graph)


COMPANY = ["FreeU", "FreeU_V2", "LoRA", "middle-block patch", "PAG", "rescale", "deep shrink"]


@pytest.mark.parametrize("name", COMPANY)
def test_the_order_of_the_nodes_does_not_matter(bench, name):
    family = "sd15_wide" if name.startswith("FreeU") else "sd15"  # FreeU acts on 1280 channels
    bench.save_adapter(make_both(family))
    how = {"family": family, "size": (128, 128)}
    before, after = latent_with(bench, ["steer", name], **how), latent_with(bench, [name, "steer"], **how)
    assert torch.equal(before, after)
    assert not torch.equal(before, latent_with(bench, [name], **how)), "steering must act"
    assert not torch.equal(before, latent_with(bench, ["steer"], **how)), "the other node must act"


def test_all_at_once_in_any_order(bench):
    bench.save_adapter(make_both("sd15_wide"))
    how = {"family": "sd15_wide", "size": (128, 128)}
    first = latent_with(bench, ["steer", "FreeU", "rescale", "steer", "PAG"], **how)
    assert torch.equal(first, latent_with(bench, ["PAG", "steer", "steer", "FreeU", "rescale"], **how))


def controlled(bench: Bench, strength: float, control_strength: float) -> list[dict[str, torch.Tensor]]:
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    model = steer(graph, load_unet(graph, "sd15"), adapter, strength=strength)
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x8040C0)
    control = graph.add("ControlNetLoader", control_net_name="sd15.safetensors")
    positive, negative = (graph.add("ProbeCondition", seed=s, family="sd15", tokens=77) for s in (1, 2))
    applied = graph.add(
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=control,
        image=image,
        strength=control_strength,
        start_percent=0.0,
        end_percent=1.0,
    )
    record = graph.add("ProbeRecord", model=model, name="record")
    sample(graph, record, "sd15", positive=applied, negative=[applied[0], 1])
    bench.run(graph)
    return bench.record()


def test_a_controlnets_residual_is_in_h_already_and_stays(bench):
    bench.save_adapter(make_both("sd15"))
    with_control, without = controlled(bench, 1.0, 1.0)[0], controlled(bench, 1.0, 0.0)[0]
    assert not torch.allclose(with_control["before"], without["before"]), "the ControlNet must act on h"
    added = with_control["after"] - with_control["before"]
    torch.testing.assert_close(added, without["after"] - without["before"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_half_precision_unets_stay_in_their_dtype(bench, dtype):
    adapter = make_both("sd15")
    bench.save_adapter(adapter)
    graph = Graph()
    model = graph.add("ModelComputeDtype", model=load_unet(graph, "sd15"), dtype=dtype)
    sample(graph, graph.add("ProbeRecord", model=steer_both(graph, model), name="record"), "sd15", seed=21)
    bench.run(graph)
    to = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    for call in bench.record():
        positive = call["condition"] == 1
        before, after = call["before"][positive].to(to), call["after"][positive]
        assert torch.equal(after, (before + vector_of(adapter).to(to)).float())
        layer = call["layer_before"][positive]
        expected = layer + moved(adapter.concepts["old"], LAYERS["sd15"][0], layer)
        torch.testing.assert_close(call["layer_after"][positive], expected, rtol=2e-2, atol=2e-2)
        assert torch.equal(call["layer_after"][~positive], call["layer_before"][~positive])
        assert torch.isfinite(call["prediction0"]).all()


@pytest.mark.parametrize("first", ["steer", "compile"])
def test_a_compiled_model_is_steered_whatever_was_compiled_before(bench, first):
    """ComfyUI's compiled code does not notice that patches came or went: neither may steering."""
    bench.save_adapter(make_both("sd15"))

    def latent(strength: float, compiled: bool) -> torch.Tensor:
        graph = Graph()
        model = load_unet(graph, "sd15")
        if compiled and first == "compile":
            model = graph.add("TorchCompileModel", model=model, backend="inductor")
        model = steer_both(graph, model, strength)
        if compiled and first == "steer":
            model = graph.add("TorchCompileModel", model=model, backend="inductor")
        sample(graph, model, "sd15", steps=1, seed=51)
        return bench.latent(graph)

    eager = {strength: latent(strength, compiled=False) for strength in (0.0, 1.0, -1.0)}
    assert (eager[1.0] - eager[-1.0]).norm() > 0.1 * eager[1.0].norm(), "the test's strengths must differ"
    for strength in (0.0, 1.0, -1.0, 0.0, 1.0):
        bench.server.free_memory()  # else the same graph is not run again
        expected = eager[strength]
        assert (latent(strength, compiled=True) - expected).norm() < 1e-3 * expected.norm()


def test_a_reloaded_and_unloaded_model_is_steered_the_same(bench):
    bench.save_adapter(make_both("sd15"))
    first = latent_with(bench, ["steer"], seed=31)
    bench.server.free_memory()
    latent_with(bench, [], seed=32)
    assert torch.equal(latent_with(bench, ["steer"], seed=31), first)
