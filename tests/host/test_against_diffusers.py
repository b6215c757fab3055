"""An independent check: diffusers' own UNet, same weights, forward hooks on its mid_block or cross-attention layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from comfy_bench import (
    LAYERS,
    TOKENS,
    load_unet,
    make_adapter,
    make_contrast,
    moved,
    relative,
    sample,
    steer,
    vector_of,
)
from comfy_graph import Graph
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from respodiff.trainer.base.attention_layers import attention_layers
from safetensors.torch import load_file

CONFIGS = {
    "sd15": {
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (320, 320),
        "layers_per_block": 1,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "sdxl": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 320, 320),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 5, 5),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@pytest.fixture(scope="module")
def diffusers_unet(models: Path) -> Callable[[str], UNet2DConditionModel]:
    """A family's UNet, made once."""

    @cache
    def unet_of(family: str) -> UNet2DConditionModel:
        unet = UNet2DConditionModel(sample_size=8, **CONFIGS[family])
        state = load_file(models / "diffusion_models" / f"{family}.safetensors")
        unet.load_state_dict(convert_ldm_unet_checkpoint(state, dict(unet.config)))
        return unet.eval()

    return unet_of


def condition(seed: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ProbeCondition's context and pooled output."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(1, TOKENS, width, generator=generator)
    context[0, 0, 0] = seed
    return context, torch.randn(1, 1280, generator=generator)


def denoised_by(unet: UNet2DConditionModel, call: dict[str, torch.Tensor], family: str, width: int) -> torch.Tensor:
    """What diffusers' UNet makes of the positive row of a recorded call, whose image is width x 64 pixels."""
    context, pooled = condition(1, CONFIGS[family]["cross_attention_dim"])
    sigma = call["sigma"][0]
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, width, 0.0, 0.0, 64.0, width]])}
    with torch.inference_mode():
        noise = unet(
            call["latent"][:1] / (sigma**2 + 1) ** 0.5,
            call["timestep"][0],
            encoder_hidden_states=context,
            added_cond_kwargs=added if family == "sdxl" else None,
        ).sample
    return call["latent"][:1] - sigma * noise


@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_the_prediction_is_that_of_diffusers_with_the_tensor_added(bench, diffusers_unet, family, strength):
    adapter = make_adapter(family)
    bench.save_adapter(adapter)
    graph = Graph()
    model = steer(
        graph,
        load_unet(graph, family),
        graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"),
        strength=strength,
    )
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), family, steps=1)
    bench.run(graph)
    call = bench.record()[0]

    unet = diffusers_unet(family)
    hook = unet.mid_block.register_forward_hook(lambda _module, _args, h: h + strength * vector_of(adapter))
    denoised = denoised_by(unet, call, family, width=64)
    hook.remove()
    error = (call["prediction0"] - denoised).norm() / denoised.norm()
    assert error <= 1e-4


@pytest.mark.parametrize("operation", ["add", "move"])
def test_the_prediction_is_that_of_diffusers_with_every_layer_moved_by_hand(bench, diffusers_unet, family, operation):
    adapter = make_contrast(family, operation=operation)
    bench.save_adapter(adapter)
    graph = Graph()
    model = load_unet(graph, family)
    model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"), "old", strength=1.5)
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), family, steps=1, size=(96, 64))
    bench.run(graph)
    call = bench.record()[0]

    unet, concept = diffusers_unet(family), adapter.concepts["old"]
    layers = attention_layers(unet)
    assert list(layers) == LAYERS[family]
    hooks = [
        layer.register_forward_hook(lambda _module, _args, x, site=site: x + moved(concept, site, x, 1.5))
        for site, layer in layers.items()
    ]
    denoised = denoised_by(unet, call, family, width=96)
    for hook in hooks:
        hook.remove()
    assert relative(call["prediction0"], denoised) <= 1e-4
    assert relative(call["prediction1"], denoised) > 1e-3, "the test's vectors must matter"
