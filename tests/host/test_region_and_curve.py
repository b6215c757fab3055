"""Steer with a mask and a strength curve: where in the picture, and how much at each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, sample, steer, vector_of
from comfy_graph import Graph, Link
from PIL import Image


def right_half(bench: Bench, *, soft: bool = False) -> str:
    """A picture, 64 x 64, whose red channel is the mask: its name in ComfyUI's input folder."""
    values = np.zeros((64, 64, 3), np.uint8)
    values[:, 32:] = 128 if soft else 255
    name = f"right_half_{soft}.png"
    Image.fromarray(values).save(bench.server.base_directory / "input" / name)
    return name


def load_mask(graph: Graph, name: str) -> Link:
    return graph.add("LoadImageMask", image=name, channel="red")


def recorded(bench: Bench, mask: str | None, batch: int = 1, **how: Any) -> list[dict[str, torch.Tensor]]:
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    if mask:
        how["mask"] = load_mask(graph, mask)
    sampling = {key: how.pop(key) for key in ("steps", "positive") if key in how}
    model = steer(graph, load_unet(graph, "sd15"), adapter, **how)
    sample(graph, graph.add("ProbeRecord", model=model, name="record"), "sd15", batch=batch, **sampling)
    bench.run(graph)
    return bench.record()


def added(call: dict[str, torch.Tensor]) -> torch.Tensor:
    return (call["after"] - call["before"])[call["condition"] == 1]


class TestMask:
    def test_outside_a_hard_mask_the_change_of_h_is_zero(self, bench):
        adapter = make_adapter("sd15")
        bench.save_adapter(adapter)
        for call in recorded(bench, right_half(bench), batch=2):
            for change in added(call):
                assert not change[..., :2].any()
                torch.testing.assert_close(change[..., 2:], vector_of(adapter)[..., 2:], rtol=1e-4, atol=1e-5)

    def test_a_soft_mask_steers_in_part(self, bench):
        adapter = make_adapter("sd15")
        bench.save_adapter(adapter)
        change = added(recorded(bench, right_half(bench, soft=True))[0])[0]
        expected = 128 / 255 * vector_of(adapter)[..., 2:]
        torch.testing.assert_close(change[..., 2:], expected, rtol=1e-3, atol=1e-4)

    def test_left_and_right_half_are_the_whole(self, bench):
        bench.save_adapter(make_adapter("sd15"))

        def latent(*halves: bool) -> torch.Tensor:
            graph = Graph()
            model = load_unet(graph, "sd15")
            adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
            for inverted in halves:
                mask = load_mask(graph, right_half(bench))
                mask = graph.add("InvertMask", mask=mask) if inverted else mask
                model = steer(graph, model, adapter, mask=mask)
            if not halves:
                model = steer(graph, model, adapter)
            sample(graph, model, "sd15", seed=71)
            return bench.latent(graph)

        whole = latent()
        assert (latent(False, True) - whole).norm() <= 1e-5 * whole.norm()
        assert (latent(False) - whole).norm() > 1e-3 * whole.norm()

    def test_an_all_black_mask_changes_nothing(self, bench):
        bench.save_adapter(make_adapter("sd15"))

        def latent(steered: bool) -> torch.Tensor:
            graph = Graph()
            model = load_unet(graph, "sd15")
            if steered:
                mask = graph.add("SolidMask", value=0.0, width=64, height=64)
                adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
                model = steer(graph, model, adapter, mask=mask)
            sample(graph, model, "sd15", seed=72)
            return bench.latent(graph)

        assert torch.equal(latent(steered=True), latent(steered=False))

    def test_a_prompt_for_an_area_sees_its_own_part_of_the_mask(self, bench):
        """ComfyUI crops the latent to the area: the left one lies outside of the mask, the right one inside."""
        adapter = make_adapter("sd15")
        bench.save_adapter(adapter)
        changes = {}
        for side, x in (("left", 0), ("right", 64)):
            graph = Graph()
            mask = graph.add("ImageToMask", image=graph.add("LoadImage", image=right_half(bench)), channel="red")
            model = steer(
                graph,
                load_unet(graph, "sd15"),
                graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"),
                mask=mask,
            )
            area = graph.add(
                "ConditioningSetArea",
                conditioning=graph.add("ProbeCondition", seed=1, family="sd15", tokens=77),
                width=64,
                height=64,
                x=x,
                y=0,
                strength=1.0,
            )
            record = graph.add("ProbeRecord", model=model, name="record")
            sample(graph, record, "sd15", size=(128, 64), positive=area, steps=1)
            bench.run(graph)
            changes[side] = torch.cat([added(call) for call in bench.record() if (call["condition"] == 1).any()])
        assert not changes["left"].any()
        torch.testing.assert_close(changes["right"][0], vector_of(adapter), rtol=1e-4, atol=1e-5)

    def test_masks_for_another_batch_size_are_refused(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        graph = Graph()
        masks = graph.add("RepeatImageBatch", image=graph.add("LoadImage", image=right_half(bench)), amount=3)
        mask = graph.add("ImageToMask", image=masks, channel="red")
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        sample(graph, steer(graph, load_unet(graph, "sd15"), adapter, mask=mask), "sd15", batch=4, steps=1)
        assert "made for a batch of 3 images, but 4 are sampled" in bench.error(graph).message

    @pytest.mark.parametrize("other", ["FreeU", "LoRA", "PAG", "ControlNet"])
    def test_mask_and_window_keep_company_in_either_order(self, bench, other):
        family = "sd15_wide" if other == "FreeU" else "sd15"
        bench.save_adapter(make_adapter(family))

        def latent(steer_first: bool, steered: bool = True) -> torch.Tensor:
            graph = Graph()
            model = load_unet(graph, family)
            adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
            sampling: dict[str, Any] = {}

            def beside(model: Link) -> Link:
                match other:
                    case "FreeU":
                        return graph.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)
                    case "LoRA":
                        return graph.add(
                            "LoraLoaderModelOnly", model=model, lora_name="sd15.safetensors", strength_model=0.5
                        )
                    case "PAG":
                        return graph.add("PerturbedAttentionGuidance", model=model, scale=2.0)
                conditions = [graph.add("ProbeCondition", seed=s, family="sd15", tokens=77) for s in (1, 2)]
                applied = graph.add(
                    "ControlNetApplyAdvanced",
                    positive=conditions[0],
                    negative=conditions[1],
                    control_net=graph.add("ControlNetLoader", control_net_name="sd15.safetensors"),
                    image=graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x8040C0),
                    strength=1.0,
                    start_percent=0.0,
                    end_percent=1.0,
                )
                sampling.update(positive=applied, negative=[applied[0], 1])
                return model

            how = {"end_percent": 0.6, "curve": "fade out", "mask": load_mask(graph, right_half(bench, soft=True))}
            if not steer_first:
                model = beside(model)
            if steered:
                model = steer(graph, model, adapter, **how)
            if steer_first:
                model = beside(model)
            sample(graph, model, family, size=(64, 64), seed=73, steps=4, **sampling)
            return bench.latent(graph)

        first = latent(steer_first=True)
        if other != "ControlNet":  # it comes by the prompts' wire: there is no order
            assert torch.equal(first, latent(steer_first=False))
        assert not torch.equal(first, latent(steer_first=True, steered=False)), "steering must act"


class TestCurve:
    @pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.25, 0.75)])
    def test_the_strength_follows_the_schedule(self, bench, start, end):
        """From 0 to 1 along the window, in percent of the schedule as ControlNet counts, within a hundredth."""
        adapter = make_adapter("sd15")
        bench.save_adapter(adapter)
        for curve in ("fade in", "fade out"):
            calls = recorded(bench, None, steps=12, curve=curve, start_percent=start, end_percent=end)
            for call in calls:
                percent = 1 - call["timestep"][0].item() / 999
                along = (percent - start) / (end - start)
                factor = (added(call)[0] * vector_of(adapter)).sum() / vector_of(adapter).square().sum()
                if not 0 <= along <= 1:
                    assert factor == 0
                else:
                    assert factor == pytest.approx(along if curve == "fade in" else 1 - along, abs=0.011)
        assert len(calls) == 12

    def test_a_constant_curve_is_no_curve(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        plain, constant = recorded(bench, None), recorded(bench, None, curve="constant")
        assert all(torch.equal(a["after"], b["after"]) for a, b in zip(plain, constant, strict=True))
