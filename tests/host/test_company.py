"""In company: ControlNet, LoRA, FreeU, other patches, compiled models and other dtypes, before or after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_graph import Graph, Link
from conftest import Bench, load_unet, make_adapter, sample, steer


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


def latent_with(bench: Bench, order: list[str], **sampling: Any) -> torch.Tensor:
    graph = Graph()
    model = load_unet(graph, "sd15")
    for name in order:
        if name == "steer":
            model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"))
        else:
            model = patch(graph, name, model)
    sample(graph, model, "sd15", **sampling)
    return bench.latent(graph)


COMPANY = ["FreeU", "FreeU_V2", "LoRA", "middle-block patch", "PAG", "rescale", "deep shrink"]


@pytest.mark.parametrize("name", COMPANY)
def test_the_order_of_the_nodes_does_not_matter(bench, name):
    bench.save_adapter(make_adapter("sd15"))
    size = {"size": (128, 128)}
    before, after = latent_with(bench, ["steer", name], **size), latent_with(bench, [name, "steer"], **size)
    assert torch.equal(before, after)
    assert not torch.equal(before, latent_with(bench, [name], **size)), "steering must act"
    assert not torch.equal(before, latent_with(bench, ["steer"], **size)), "the other node must act"


def test_all_at_once_in_any_order(bench):
    bench.save_adapter(make_adapter("sd15"))
    first = latent_with(bench, ["steer", "FreeU", "LoRA", "steer"], size=(128, 128))
    assert torch.equal(first, latent_with(bench, ["LoRA", "steer", "steer", "FreeU"], size=(128, 128)))


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
    bench.save_adapter(make_adapter("sd15"))
    with_control, without = controlled(bench, 1.0, 1.0)[0], controlled(bench, 1.0, 0.0)[0]
    assert not torch.allclose(with_control["before"], without["before"]), "the ControlNet must act on h"
    added = with_control["after"] - with_control["before"]
    torch.testing.assert_close(added, without["after"] - without["before"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_half_precision_unets_stay_in_their_dtype(bench, dtype):
    bench.save_adapter(make_adapter("sd15", scale=0.2))
    graph = Graph()
    model = graph.add("ModelComputeDtype", model=load_unet(graph, "sd15"), dtype=dtype)
    model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"))
    sample(graph, model, "sd15", seed=21)
    latent = bench.latent(graph)
    full = latent_with(bench, ["steer"], seed=21)
    plain = latent_with(bench, [], seed=21)
    error, effect = (latent - full).norm(), (full - plain).norm()
    assert torch.isfinite(latent).all()
    assert error < 0.2 * effect, "rounding must stay well below what steering does"


def test_a_compiled_model_follows_the_strength_slider(bench):
    """The second strength must not meet a graph compiled with the first."""
    bench.save_adapter(make_adapter("sd15"))
    for strength in (1.0, -1.0, 0.0):
        latents = []
        for compiled in (True, False):
            graph = Graph()
            model = load_unet(graph, "sd15")
            adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
            model = steer(graph, model, adapter, strength=strength)
            if compiled:
                model = graph.add("TorchCompileModel", model=model, backend="inductor")
            sample(graph, model, "sd15", steps=1)
            latents.append(bench.latent(graph))
        torch.testing.assert_close(*latents, rtol=1e-3, atol=1e-3)


def test_a_reloaded_and_unloaded_model_is_steered_the_same(bench):
    bench.save_adapter(make_adapter("sd15"))
    first = latent_with(bench, ["steer"], seed=31)
    bench.server.free_memory()
    latent_with(bench, [], seed=32)
    assert torch.equal(latent_with(bench, ["steer"], seed=31), first)
