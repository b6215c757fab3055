"""Weights that the authors publish (unet.pth), put into models/respodiff as they are."""

from __future__ import annotations

import pytest
import torch
from comfy_bench import relative, sample, steer
from comfy_graph import Graph, output
from respodiff.respodiff_core.adapter.importers import RAM_NAME, SAM_NAME

ROWS = 1280 * 8 * 8
SDISC = ["woman", "man", "young", "old", "white", "black", "asian", "sexual"]


@pytest.fixture
def published(bench):
    generator = torch.Generator().manual_seed(0)
    folder = bench.adapters / "published"
    folder.mkdir(exist_ok=True)
    torch.save({RAM_NAME: torch.randn(ROWS, 8, generator=generator)}, folder / "sdisc.pth")
    respodiff = folder / "a woman" / "0"
    respodiff.mkdir(parents=True, exist_ok=True)
    weights = torch.randn(ROWS, 10, generator=generator)
    torch.save({RAM_NAME: weights, SAM_NAME: weights.flip(0)}, respodiff / "unet.pth")
    torch.save({"weight": torch.zeros(4)}, folder / "other.pth")


def test_both_kinds_are_read_and_steer(bench, published):
    for file, concept in (("published/sdisc.pth", "old"), ("published/a woman/0/unet.pth", "woman")):
        latents = []
        for strength in (0.0, 1.0):
            graph = Graph()
            model = graph.add("UNETLoader", unet_name="sd15_wide.safetensors", weight_dtype="default")
            adapter = graph.add("RespoDiffLoadAdapter", adapter=file)
            sample(graph, steer(graph, model, adapter, concept, strength), "sd15_wide")
            latents.append(bench.latent(graph))
        assert relative(*latents) > 1e-2


def test_every_concept_says_its_axis(bench, published):
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="published/sdisc.pth")
    shown = graph.add("PreviewAny", source=graph.add("RespoDiffInspectAdapter", adapter=adapter))
    text = bench.run(graph).outputs[shown[0]]["text"][0]
    assert all(axis in text for axis in ("gender", "age", "race"))
    assert all(name in text for name in SDISC)


def test_gender_and_race_are_crossed(bench, published):
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="published/sdisc.pth")
    groups = [
        graph.add("RespoDiffFairGroup", adapter=adapter, concept=concept, share=1.0, strength=1.0)
        for concept in ("woman", "black")
    ]
    crossed = graph.add("RespoDiffCrossGroups", first=groups[0], second=groups[1], first_scale=1.0, second_scale=0.6)
    model = graph.add("UNETLoader", unet_name="sd15_wide.safetensors", weight_dtype="default")
    batch = {"none_share": 0.0, "allocation": "balanced", "seed": 0, "batch_size": 1}
    fair = graph.add("RespoDiffFairBatch", model=model, **{"groups.group0": crossed}, **batch)
    shown = graph.add("PreviewAny", source=output(fair, 2))
    assert bench.run(graph).outputs[shown[0]]["text"][0] == "woman + black"


def test_the_lists_have_them_and_their_concepts(bench, published):
    info = bench.server.get_json("/object_info")
    assert "published/sdisc.pth" in options(info, "RespoDiffLoadAdapter", "adapter")
    assert set(SDISC) <= set(options(info, "RespoDiffSteer", "concept"))
    mixer = info["RespoDiffConceptMixer"]["input"]["required"]["adapter"][1]["options"]
    assert not any(option["key"].endswith(".pth") for option in mixer)


def options(info, node: str, name: str) -> list[str]:
    kind, more = info[node]["input"]["required"][name]
    return more["options"] if kind == "COMBO" else kind


def test_a_wrong_one_is_refused(bench, published):
    graph = Graph()
    graph.add("RespoDiffInspectAdapter", adapter=graph.add("RespoDiffLoadAdapter", adapter="published/other.pth"))
    assert "is not a RespoDiff or SDisc file" in bench.error(graph).message
