"""What steering costs a step: one add, no upload, no wait of the host for the device, nothing left behind."""

from __future__ import annotations

import json

import pytest
from comfy_bench import LAYERS, Bench, load_unet, make_adapter, make_contrast, sample, steer
from comfy_graph import Graph
from respodiff.respodiff_core.adapter.adapter import Adapter, merge

HOST_READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "item")
UPLOADS = ("_to_copy", "copy_")


def operations(bench: Bench, adapter: Adapter, **how) -> dict[str, list[list[str]]]:
    """The operations of Steer's patches at h in each UNet call, and at each layer, all concepts chained."""
    bench.save_adapter(adapter)
    graph = Graph()
    model = load_unet(graph, "sd15")
    loaded = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    for name in adapter.concepts:
        model = steer(graph, model, loaded, name, **how)
    sample(graph, graph.add("ProbeOperations", model=model), "sd15", steps=4)
    bench.run(graph)
    return listed(bench)


def listed(bench: Bench) -> dict[str, list[list[str]]]:
    return json.loads((bench.server.base_directory / "output" / "operations.json").read_text())


@pytest.mark.parametrize(
    "how",
    [{}, {"start_percent": 0.2, "end_percent": 0.7}, {"curve": "fade in"}],
    ids=["whole", "window", "curve"],
)
def test_a_step_never_makes_the_host_wait_nor_uploads_again(bench, how):
    found = operations(bench, merge([make_adapter("sd15"), make_contrast("sd15", parts=3)]), **how)
    for steps, calls in ((found["h"], 1), (found["layers"], len(LAYERS["sd15"]))):
        assert len(steps) == 4 * calls
        for step in steps:
            assert not [name for name in step if any(read in name for read in HOST_READS)]
        for step in steps[calls:]:
            assert not [name for name in step if any(upload in name for upload in UPLOADS)]


def test_eight_chained_concepts_cost_a_step_what_one_does(bench):
    one = operations(bench, merge([make_adapter("sd15"), make_contrast("sd15")]))
    eight = merge(
        [make_adapter("sd15", *"abcdefgh"), *(make_contrast("sd15", name, n) for n, name in enumerate("ijklmnop"))]
    )
    many = operations(bench, eight)
    for where in ("h", "layers"):
        assert one[where][-1] == many[where][-1]
    assert sum("aten.add" in name for name in many["h"][-1]) == 1


def test_a_batch_of_eight_concepts_costs_a_step_what_one_concept_does(bench):
    """The same operations, on rows that hold each image's own vector."""
    one = operations(bench, make_adapter("sd15"))["h"][-1]
    bench.save_adapter(make_adapter("sd15", *"abcdefgh"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    groups = graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=1.0)
    settings = {"none_share": 0.0, "allocation": "balanced", "seed": 0, "batch_size": 8}
    fair = graph.add("RespoDiffFairBatch", model=load_unet(graph, "sd15"), **{"groups.group0": groups}, **settings)
    sample(graph, graph.add("ProbeOperations", model=fair), "sd15", steps=4, batch=8)
    bench.run(graph)
    assert listed(bench)["h"][-1] == one


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
