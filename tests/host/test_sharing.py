"""Sharing from the graph: what an adapter is, by whom, and how it looks, saved with it and shown."""

from __future__ import annotations

from comfy_bench import make_adapter, make_both
from comfy_graph import Graph
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import read

ABOUT = {"title": "Women and men", "author": "Ada", "license": "CC-BY-4.0", "description": "For portraits."}


def test_save_adapter_writes_what_the_file_is_and_a_preview(bench):
    bench.save_adapter(make_both("sd15"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    preview = graph.add("EmptyImage", width=1024, height=512, batch_size=1, color=0xFF0000)
    settings = {"dtype": "float32", "overwrite": True}
    graph.add("RespoDiffSaveAdapter", adapter=adapter, name="about", preview=preview, **ABOUT, **settings)
    bench.run(graph)
    metadata = read(bench.adapters / "about.safetensors").metadata
    assert {key: metadata[f"modelspec.{key}"] for key in ABOUT} == ABOUT
    assert Image.open(bench.adapters / "about.preview.png").size == (512, 256)

    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="about.safetensors")
    node = graph.add("RespoDiffInspectAdapter", adapter=adapter)
    shown = bench.run(graph).outputs[node[0]]
    text = shown["text"][0]
    assert all(value in text for value in ABOUT.values())
    first = Image.open(bench.server.output_path(shown["images"][0])).convert("RGB")
    assert first.size == (512, 256)
    assert first.getpixel((9, 9)) == (255, 0, 0)
    assert len(shown["images"]) == 2


def test_without_them_the_file_stays_what_it_was(bench):
    bench.save_adapter(make_adapter("sd15"))
    graph = Graph()
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    graph.add("RespoDiffSaveAdapter", adapter=adapter, name="same", dtype="float32", overwrite=True)
    bench.run(graph)
    assert (bench.adapters / "same.safetensors").read_bytes() == (bench.adapters / "test.safetensors").read_bytes()
    assert not (bench.adapters / "same.preview.png").exists()
