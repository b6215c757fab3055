"""start_percent and end_percent mean what they mean for ControlNet: a range of sigmas."""

from __future__ import annotations

import numpy as np
import pytest
from comfy_bench import load_unet, make_adapter, make_both, sample, steer
from comfy_graph import Graph


def percent_to_sigma(percent: float) -> float:
    """SD's schedule spelled out: sigma at `percent` of the way from pure noise to the image."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    log_sigmas = np.log(((1 - alphas) / alphas) ** 0.5)
    return float(np.exp(np.interp((1 - percent) * 999, np.arange(1000), log_sigmas)))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim", "lcm"])
def test_a_window_acts_on_exactly_its_steps(bench, sampler):
    bench.save_adapter(make_both("sd15"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    model = load_unet(graph, "sd15")
    for concept in ("woman", "old"):
        model = steer(graph, model, adapter, concept, start_percent=0.3, end_percent=0.6)
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), "sd15", steps=20, sampler_name=sampler)
    bench.run(graph)
    calls = bench.record()
    acted = [bool((call["after"] != call["before"]).any()) for call in calls]
    sigmas = [call["sigma"][0].item() for call in calls]
    assert acted == [percent_to_sigma(0.6) <= sigma <= percent_to_sigma(0.3) for sigma in sigmas]
    assert acted == [bool((call["layer_after"] != call["layer_before"]).any()) for call in calls]
    assert 3 <= sum(acted) <= 9, "the window holds some steps and leaves some out"


def test_outside_its_window_h_is_untouched_bit_for_bit(bench):
    bench.save_adapter(make_adapter("sd15", "a", "b"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    model = steer(graph, load_unet(graph, "sd15"), adapter, "a", end_percent=0.2)
    model = steer(graph, model, adapter, "b", start_percent=0.8)
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), "sd15", steps=10)
    bench.run(graph)
    calls = bench.record()
    acted = [bool((call["after"] != call["before"]).any()) for call in calls]
    assert acted[0]
    assert acted[-1]
    assert not any(acted[3:7])
