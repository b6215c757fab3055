"""Whose rows are steered is told by what a condition is, never by where it stands."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_bench import LAYERS, Bench, load_unet, make_both, moved, sample, steer, vector_of
from comfy_graph import Graph, Link

POSITIVE, NEGATIVE, OTHER = 1, 2, 3


class Scene:
    """A steered, recorded SD1.5 model to build a sampler around."""

    def __init__(self, bench: Bench, **how: Any):
        self.bench = bench
        self.adapter = make_both("sd15")
        bench.save_adapter(self.adapter)
        self.graph = Graph()
        self.adapter_link = self.graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        self.model = self.steered(load_unet(self.graph, "sd15"), **how)

    def steered(self, model: Link, **how: Any) -> Link:
        for concept in self.adapter.concepts:
            model = steer(self.graph, model, self.adapter_link, concept, **how)
        return model

    def condition(self, seed: int, tokens: int = 77) -> Link:
        return self.graph.add("ProbeCondition", seed=seed, family="sd15", tokens=tokens)

    def record(self) -> Link:
        return self.graph.add("ProbeRecord", model=self.model, name="record")

    def run(self, **sampling: Any) -> list[dict[str, torch.Tensor]]:
        """KSampler on the recorded model; what its UNet calls did."""
        sample(self.graph, self.record(), "sd15", steps=2, **sampling)
        return self.calls()

    def run_guider(self, guider: Link, size: tuple[int, int] = (64, 64)) -> list[dict[str, torch.Tensor]]:
        graph = self.graph
        noise = graph.add("RandomNoise", noise_seed=5)
        sampler = graph.add("KSamplerSelect", sampler_name="euler")
        sigmas = graph.add("BasicScheduler", model=self.model, scheduler="normal", steps=2, denoise=1.0)
        latent = graph.add("EmptyLatentImage", width=size[0], height=size[1], batch_size=2)
        out = graph.add(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )
        graph.add("SaveLatent", samples=out, filename_prefix="latent")
        return self.calls()

    def calls(self) -> list[dict[str, torch.Tensor]]:
        self.bench.run(self.graph)
        return self.bench.record()

    def check(self, calls: list[dict[str, torch.Tensor]], steered: set[int], seen: set[int]) -> None:
        """Exactly the rows of the steered conditions got the vector, at h and at the first layer, and every condition
        was seen.
        """
        site = LAYERS["sd15"][0]
        found = set()
        for call in calls:
            for row, condition in enumerate(call["condition"].int().tolist()):
                found.add(condition)
                before, after = call["before"][row], call["after"][row]
                if condition in steered:
                    field = vector_of(self.adapter)
                    if before.shape[1:] != field.shape[1:]:
                        modules = (self.adapter.concepts["woman"].ram, self.adapter.concepts["woman"].sam)
                        field = sum(m.field(*before.shape[1:]) for m in modules)
                    torch.testing.assert_close(after - before, field, rtol=1e-3, atol=1e-3)
                    layer = call["layer_before"][row]
                    expected = layer + moved(self.adapter.concepts["old"], site, layer)
                    torch.testing.assert_close(call["layer_after"][row], expected, rtol=1e-3, atol=1e-3)
                    assert not torch.equal(call["layer_after"][row], layer)
                else:
                    assert torch.equal(call["layer_after"][row], call["layer_before"][row])
                    assert torch.equal(after, before), f"rows of condition {condition} were touched"
        assert found == seen


def test_together_in_one_call(bench):
    scene = Scene(bench)
    calls = scene.run(batch=2)
    assert len(calls) == 2
    scene.check(calls, {POSITIVE}, {POSITIVE, NEGATIVE})


def test_apart_where_the_prompts_differ_in_length(bench):
    scene = Scene(bench)
    # 77 and 78 tokens have no common multiple that ComfyUI would pad to, so each prompt gets its own call.
    calls = scene.run(positive=scene.condition(POSITIVE, 78), negative=scene.condition(NEGATIVE, 77), batch=2)
    assert len(calls) == 4
    scene.check(calls, {POSITIVE}, {POSITIVE, NEGATIVE})


def test_the_same_conditions_the_other_way_round(bench):
    scene = Scene(bench)
    calls = scene.run(positive=scene.condition(NEGATIVE), negative=scene.condition(POSITIVE))
    scene.check(calls, {NEGATIVE}, {POSITIVE, NEGATIVE})


@pytest.mark.parametrize(("prompt", "steered"), [("negative", {NEGATIVE}), ("both", {POSITIVE, NEGATIVE})])
def test_the_negative_prompt_or_both_on_request(bench, prompt, steered):
    scene = Scene(bench, prompt=prompt)
    scene.check(scene.run(batch=2), steered, {POSITIVE, NEGATIVE})


def test_guidance_of_one_has_only_the_positive_prompt(bench):
    scene = Scene(bench)
    calls = scene.run(cfg=1.0, batch=2)
    scene.check(calls, {POSITIVE}, {POSITIVE})


def test_combined_prompts_are_all_positive(bench):
    scene = Scene(bench)
    both = scene.graph.add(
        "ConditioningCombine", conditioning_1=scene.condition(POSITIVE), conditioning_2=scene.condition(OTHER)
    )
    scene.check(scene.run(positive=both, batch=2), {POSITIVE, OTHER}, {POSITIVE, NEGATIVE, OTHER})


@pytest.mark.parametrize("whose", ["positive", "negative"])
def test_areas_are_copied_between_the_prompts_and_still_told_apart(bench, whose):
    scene = Scene(bench)
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    prompts = {"positive": scene.condition(POSITIVE), "negative": scene.condition(NEGATIVE)}
    prompts[whose] = scene.graph.add("ConditioningSetArea", conditioning=prompts[whose], **area)
    whole = scene.condition(OTHER)
    prompts[whose] = scene.graph.add("ConditioningCombine", conditioning_1=prompts[whose], conditioning_2=whole)
    steered = {POSITIVE, OTHER} if whose == "positive" else {POSITIVE}
    scene.check(scene.run(size=(128, 64), **prompts), steered, {POSITIVE, NEGATIVE, OTHER})


def test_sag_calls_the_negative_prompt_once_more(bench):
    scene = Scene(bench)
    scene.model = scene.graph.add("SelfAttentionGuidance", model=scene.model, scale=0.5, blur_sigma=2.0)
    calls = scene.run(size=(128, 128))
    assert len(calls) == 4
    scene.check(calls, {POSITIVE}, {POSITIVE, NEGATIVE})


@pytest.mark.parametrize("first", ["steer", "pag"])
def test_pag_calls_the_positive_prompt_once_more(bench, first):
    scene = Scene(bench)
    if first == "pag":
        pag = scene.graph.add("PerturbedAttentionGuidance", model=load_unet(scene.graph, "sd15"), scale=3.0)
        scene.model = scene.steered(pag)
    else:
        scene.model = scene.graph.add("PerturbedAttentionGuidance", model=scene.model, scale=3.0)
    calls = scene.run()
    assert len(calls) == 4
    scene.check(calls, {POSITIVE}, {POSITIVE, NEGATIVE})


def test_a_basic_guider_has_only_a_positive_prompt(bench):
    scene = Scene(bench)
    guider = scene.graph.add("BasicGuider", model=scene.record(), conditioning=scene.condition(POSITIVE))
    scene.check(scene.run_guider(guider), {POSITIVE}, {POSITIVE})


@pytest.mark.parametrize("style", ["regular", "nested"])
def test_dual_cfg_has_the_positive_prompt_last(bench, style):
    scene = Scene(bench)
    guider = scene.graph.add(
        "DualCFGGuider",
        model=scene.record(),
        cond1=scene.condition(POSITIVE),
        cond2=scene.condition(OTHER),
        negative=scene.condition(NEGATIVE),
        cfg_conds=3.0,
        cfg_cond2_negative=2.0,
        style=style,
    )
    scene.check(scene.run_guider(guider), {POSITIVE}, {POSITIVE, NEGATIVE, OTHER})


def test_dual_cfg_with_an_area(bench):
    """Three lists, each with copies of the others' areas: neither index nor uuid alone would tell."""
    scene = Scene(bench)
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    positive = scene.graph.add("ConditioningSetArea", conditioning=scene.condition(POSITIVE), **area)
    guider = scene.graph.add(
        "DualCFGGuider",
        model=scene.record(),
        cond1=positive,
        cond2=scene.condition(OTHER),
        negative=scene.condition(NEGATIVE),
        cfg_conds=3.0,
        cfg_cond2_negative=2.0,
        style="regular",
    )
    scene.check(scene.run_guider(guider, (128, 64)), {POSITIVE}, {POSITIVE, NEGATIVE, OTHER})


def test_perp_neg_guider_has_an_empty_prompt_beside(bench):
    scene = Scene(bench)
    guider = scene.graph.add(
        "PerpNegGuider",
        model=scene.record(),
        positive=scene.condition(POSITIVE),
        negative=scene.condition(NEGATIVE),
        empty_conditioning=scene.condition(OTHER),
        cfg=5.0,
        neg_scale=1.0,
    )
    scene.check(scene.run_guider(guider), {POSITIVE}, {POSITIVE, NEGATIVE, OTHER})


def test_the_old_perp_neg_node_asks_for_a_prompt_the_guider_does_not_know(bench):
    scene = Scene(bench)
    scene.model = scene.graph.add(
        "PerpNeg", model=scene.model, empty_conditioning=scene.condition(OTHER), neg_scale=1.0
    )
    scene.check(scene.run(), {POSITIVE}, {POSITIVE, NEGATIVE, OTHER})
