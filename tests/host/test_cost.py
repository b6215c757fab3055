"""What steering costs a step: one add, no upload, no wait of the host for the device, nothing left behind."""

from __future__ import annotations

import json

import pytest
from comfy_bench import Bench, load_unet, make_adapter, sample, steer
from comfy_graph import Graph
from respodiff.respodiff_core.adapter.adapter import Adapter

HOST_READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "item")
UPLOADS = ("_to_copy", "copy_")


def operations(bench: Bench, adapter: Adapter, **how) -> list[list[str]]:
    """The operations of Steer's patch in each UNet call, all concepts of the adapter chained."""
    bench.save_adapter(adapter)
    graph = Graph()
    model = load_unet(graph, "sd15")
    loaded = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    for name in adapter.concepts:
        model = steer(graph, model, loaded, name, **how)
    sample(graph, graph.add("ProbeOperations", model=model), "sd15", steps=4)
    bench.run(graph)
    return json.loads((bench.server.base_directory / "output" / "operations.json").read_text())


@pytest.mark.parametrize(
    "how",
    [{}, {"start_percent": 0.2, "end_percent": 0.7}, {"curve": "fade in"}],
    ids=["whole", "window", "curve"],
)
def test_a_step_never_makes_the_host_wait_nor_uploads_again(bench, how):
    first, *later = operations(bench, make_adapter("sd15"), **how)
    assert len(later) == 3
    for step in (first, *later):
        assert not [name for name in step if any(read in name for read in HOST_READS)]
    for step in later:
        assert not [name for name in step if any(upload in name for upload in UPLOADS)]


def test_eight_chained_concepts_cost_a_step_what_one_does(bench):
    one = operations(bench, make_adapter("sd15"))[-1]
    eight = operations(bench, make_adapter("sd15", *"abcdefgh"))[-1]
    assert one == eight
    assert sum("aten.add" in name for name in eight) == 1


def test_a_batch_of_eight_concepts_costs_a_step_what_one_concept_does(bench):
    """The same operations, on rows that hold each image's own vector."""
    one = operations(bench, make_adapter("sd15"))[-1]
    bench.save_adapter(make_adapter("sd15", *"abcdefgh"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    groups = graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=1.0)
    settings = {"none_share": 0.0, "allocation": "balanced", "seed": 0, "batch_size": 8}
    fair = graph.add("RespoDiffFairBatch", model=load_unet(graph, "sd15"), **{"groups.group0": groups}, **settings)
    sample(graph, graph.add("ProbeOperations", model=fair), "sd15", steps=4, batch=8)
    bench.run(graph)
    *_, fair_step = json.loads((bench.server.base_directory / "output" / "operations.json").read_text())
    assert fair_step == one


def test_the_patch_goes_with_its_model(bench):
    def alive() -> int:
        graph = Graph()
        probe = graph.add("ProbeAlive", class_name="HSpacePatch")
        return int(bench.run(graph).outputs[probe[0]]["text"][0])

    bench.save_adapter(make_adapter("sd15"))
    graph = Graph()
    model = steer(graph, load_unet(graph, "sd15"), graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"))
    graph.add("ProbeAlive", class_name="HSpacePatch", after=sample(graph, model, "sd15", seed=61))
    outputs = bench.run(graph).outputs
    assert int(outputs[graph.id_of("ProbeAlive")]["text"][0]) > 0
    alive()  # the first graph without the model makes ComfyUI forget it
    assert alive() == 0
