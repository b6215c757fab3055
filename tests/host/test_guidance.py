"""Strength over the guidance scale in a real ComfyUI: the plan takes what the sampler's CFG needs."""

from __future__ import annotations

import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, make_contrast, relative, sample, steer
from comfy_graph import Graph
from respodiff.respodiff_core.adapter.adapter import merge

OVER = ((1.0, 2.0), (4.0, 1.0), (16.0, 0.5))


def latent(bench: Bench, concept: str, strength: float, cfg: float) -> torch.Tensor:
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    sample(graph, steer(graph, load_unet(graph, "sd15"), adapter, concept, strength), "sd15", cfg=cfg)
    return bench.latent(graph)


@pytest.mark.parametrize("kind", [make_adapter, make_contrast])
def test_strength_one_is_what_the_scale_needs(bench, kind):
    bench.save_adapter(merge([kind("sd15", "over", seed=3, guidance=OVER), kind("sd15", "plain", seed=3)]))
    for cfg, factor in ((1.0, 2.0), (4.0, 1.0), (16.0, 0.5), (8.0, 0.5**0.5)):
        found = latent(bench, "over", 0.5, cfg)
        assert relative(found, latent(bench, "plain", 0.5 * factor, cfg)) < 1e-3, cfg
    assert relative(latent(bench, "over", 0.5, 1.0), latent(bench, "plain", 0.5, 1.0)) > 1e-2


@pytest.mark.parametrize(("style", "scale"), [("regular", 4.0), ("nested", 16.0)])
def test_dual_cfg_is_what_it_weighs_the_positive_prompt_with(bench, style, scale):
    bench.save_adapter(merge([make_adapter("sd15", "over", guidance=OVER), make_adapter("sd15", "plain")]))

    def dual(concept: str, strength: float) -> torch.Tensor:
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        model = steer(graph, load_unet(graph, "sd15"), adapter, concept, strength)
        one, two, three = (graph.add("ProbeCondition", seed=seed, family="sd15", tokens=8) for seed in (1, 2, 3))
        guider = graph.add(
            "DualCFGGuider", model=model, cond1=one, cond2=two, negative=three, cfg_conds=4.0, cfg_cond2_negative=4.0,
            style=style,
        )  # fmt: skip
        empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
        sampled = graph.add(
            "SamplerCustomAdvanced",
            noise=graph.add("RandomNoise", noise_seed=7),
            guider=guider,
            sampler=graph.add("KSamplerSelect", sampler_name="euler"),
            sigmas=graph.add("BasicScheduler", model=model, scheduler="normal", steps=2, denoise=1.0),
            latent_image=empty,
        )
        graph.add("SaveLatent", samples=sampled, filename_prefix="latent")
        return bench.latent(graph)

    factor = dict(OVER)[scale]
    assert relative(dual("over", 1.0), dual("plain", factor)) < 1e-4
