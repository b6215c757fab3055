"""Adapters of strangers in ComfyUI's page: what they hold is shown, and never run."""

from __future__ import annotations

import pytest
from comfy_bench import make_adapter
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept

# Without quotes and slashes, so that it can name a file too; what it would do is seen in the page.
RUNS = "<img src=x onerror=window.ran=1>"
FILE = f"evil {RUNS}.safetensors"


@pytest.fixture
def evil(adapters) -> str:
    """The file is called so, and says so of itself in every text."""
    concept = make_adapter("sd15").concepts["woman"]
    info = ConceptInfo("woman", "fairness", RUNS, RUNS, RUNS, training={RUNS: RUNS}, axis=RUNS, synonyms=(RUNS,))
    metadata = {"modelspec.title": RUNS, "modelspec.author": f"<script>window.ran=1</script>{RUNS}"}
    write(Adapter(RUNS, {"woman": ModuleConcept(info, concept.ram, concept.sam)}, RUNS, metadata), adapters / FILE)
    return FILE


@pytest.fixture
def page(page, evil):
    page.js("() => delete window.ran")
    page.read_adapters()
    yield page
    page.quiet()  # an image that is not there has said so
    assert page.js("() => window.ran ?? null") is None, "a text of the adapter was run"


def test_inspects_text_is_text(page, evil):
    load = page.add("RespoDiffLoadAdapter", (60, 100), adapter=evil)
    inspect = page.add("RespoDiffInspectAdapter", (460, 100))
    shown = page.add("PreviewAny", (860, 100))
    page.connect(load, 0, inspect, "adapter")
    page.connect(inspect, 0, shown, "source")
    page.run(shown)
    (text,) = page.js("(id) => app.nodeOutputs[id].text", shown)
    assert f"target prompt: {RUNS}" in text
    assert f"author: <script>window.ran=1</script>{RUNS}" in text


def test_a_files_name_is_text_in_the_drop_down_and_on_the_node(page, evil):
    load = page.add("RespoDiffLoadAdapter", (60, 100), adapter=evil)
    mixer = page.add("RespoDiffConceptMixer", (460, 100), adapter=evil)
    for node in (load, mixer):
        page.js(
            """(id) => {
                const node = app.graph.getNodeById(id)
                const { options } = node.widgets.find((w) => w.name === "adapter")
                const values = typeof options.values === "function" ? options.values() : options.values
                new LiteGraph.ContextMenu(values, { scale: 1 })
            }""",
            node,
        )
        page.page.get_by_text("evil").first.wait_for()
        page.quiet()
        page.page.keyboard.press("Escape")
        if page.nodes_2:
            page.page.locator(f'[data-node-id="{node}"]').get_by_role("combobox", name="adapter").click()
            page.page.get_by_role("option", name=FILE).wait_for()
            page.quiet()
            page.page.keyboard.press("Escape")


def test_what_is_refused_is_text(page, evil):
    load = page.add("RespoDiffLoadAdapter", (60, 100), adapter=evil)
    steer = page.add("RespoDiffSteer", (460, 100), concept="woman")
    model = page.add("CheckpointLoaderSimple", (60, 400))
    sampler = page.add("KSampler", (860, 100), steps=1)
    text = page.add("CLIPTextEncode", (460, 500))
    latent = page.add("EmptyLatentImage", (460, 700), width=64, height=64)
    save = page.add("SaveLatent", (1200, 100))
    for source, number, target, name in (
        (load, 0, steer, "adapter"),
        (model, 0, steer, "model"),
        (steer, 0, sampler, "model"),
        (model, 1, text, "clip"),
        (text, 0, sampler, "positive"),
        (text, 0, sampler, "negative"),
        (latent, 0, sampler, "latent_image"),
        (sampler, 0, save, "samples"),
    ):
        page.connect(source, number, target, name)
    error, _ = page.run(save)
    assert f"was made for {RUNS}" in error["exception_message"]
    page.page.get_by_text("View details").first.click()
    page.page.get_by_text("was made for").first.wait_for()
