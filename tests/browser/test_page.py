"""The pack in ComfyUI's page, as an artist meets it."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from itertools import combinations
from typing import Any
from urllib.parse import quote

import pytest
from comfy_bench import make_adapter
from comfy_hosts import PACK
from comfy_page import SCREENSHOTS, ComfyPage, adapters_of
from node_texts import LANGUAGES, read
from respodiff.respodiff_core.adapter.adapter import write
from respodiff.trainer.comfyui.server import PACK_NAME
from respodiff.trainer.toyworld.host import TOYWORLD_PACK, TOYWORLD_PACK_NAME

NODES = sorted(path.name for path in (PACK / "web" / "docs").iterdir())
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
WORKFLOWS = dict.fromkeys(sorted((PACK / "workflows").glob("*.json")), PACK_NAME)
WORKFLOWS |= dict.fromkeys((TOYWORLD_PACK / "workflows").glob("*.json"), TOYWORLD_PACK_NAME)
LAPTOP = (1400, 860)
MIXER = "RespoDiffConceptMixer"
# The files for the templates' nodes that load an adapter, by title.
FILES = {
    "Gender adapter": "gender.safetensors",
    "Race adapter": "race.safetensors",
    "Race adapter (SDXL)": "race_sdxl.safetensors",
}


def widget(page: ComfyPage, node: int, name: str) -> dict[str, Any]:
    (found,) = (w for w in page.widgets(node) if w["name"] == name)
    return found


def strengths(page: ComfyPage, node: int) -> dict[str, float]:
    """The Concept Mixer's sliders, as labelled, and their values."""
    return {w["label"]: w["value"] for w in page.widgets(node) if w["type"] == "slider"}


def mixer(page: ComfyPage) -> int:
    (node,) = page.nodes(MIXER)
    return node


def place_of(page: ComfyPage, node: int, name: str, value: float) -> tuple[float, float]:
    """Where on the screen a slider on the canvas has that value, once it is drawn."""
    page.drawn()
    x, y = page.js(
        """(id, name, value) => {
            const node = app.graph.getNodeById(id)
            const { y, options } = node.widgets.find((w) => w.name === name)
            const along = (value - options.min) / (options.max - options.min)
            const x = node.pos[0] + 15 + along * (node.size[0] - 30)
            const { scale, offset } = app.canvas.ds
            const area = app.canvas.canvas.getBoundingClientRect()
            return [area.x + (x + offset[0]) * scale, area.y + (node.pos[1] + y + 10 + offset[1]) * scale]
        }""",
        node,
        name,
        value,
    )
    return x, y


def element_places(page: ComfyPage, node: int, name: str, value: float) -> tuple[tuple[float, float], ...]:
    """With Nodes 2.0, where a slider's thumb is, and where it has that value; it stays within its track."""
    page.drawn()
    track = page.page.locator(f'[data-node-id="{node}"] [data-slot="slider"][aria-label="{name}"]')
    thumb, room = track.get_by_role("slider").bounding_box(), track.bounding_box()
    options = widget(page, node, name)["options"]
    along = (value - options["min"]) / (options["max"] - options["min"])
    to = room["x"] + thumb["width"] / 2 + along * (room["width"] - thumb["width"])
    y = thumb["y"] + thumb["height"] / 2
    return (thumb["x"] + thumb["width"] / 2, y), (to, y)


def slide(page: ComfyPage, node: int, name: str, value: float) -> float:
    """Drag a slider with the mouse to where it has a value; what it has then."""
    if page.nodes_2:
        begin, end = element_places(page, node, name, value)
    else:
        begin, end = (place_of(page, node, name, v) for v in (page.values(node)[name], value))
    page.page.mouse.move(*begin)
    page.page.mouse.down()
    page.page.mouse.move(*begin)  # where an element's drag begins is where the mouse first moves
    page.page.mouse.move(*end, steps=4)
    page.page.mouse.up()
    return page.values(node)[name]


def picture_graph(page: ComfyPage, adapter: str = "gender.safetensors", **steer: Any) -> dict[str, int]:
    """Checkpoint to picture with one Steer, small and short; the nodes by type."""
    values = {
        "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
        "RespoDiffLoadAdapter": {"adapter": adapter},
        "RespoDiffSteer": steer,
        "CLIPTextEncode": {"text": "a photo of a doctor"},
        "EmptyLatentImage": {"width": 64, "height": 64},
        "KSampler": {"seed": 1, "steps": 2, "cfg": 4.0},
        "VAEDecode": {},
        "SaveImage": {},
    }
    nodes = {
        type_: page.add(type_, (60 + 300 * (i % 4), 100 + 330 * (i // 4)), **set_)
        for i, (type_, set_) in enumerate(values.items())
    }
    for source, output, target, name in (
        ("CheckpointLoaderSimple", 0, "RespoDiffSteer", "model"),
        ("RespoDiffLoadAdapter", 0, "RespoDiffSteer", "adapter"),
        ("RespoDiffSteer", 0, "KSampler", "model"),
        ("CheckpointLoaderSimple", 1, "CLIPTextEncode", "clip"),
        ("CLIPTextEncode", 0, "KSampler", "positive"),
        ("CLIPTextEncode", 0, "KSampler", "negative"),
        ("EmptyLatentImage", 0, "KSampler", "latent_image"),
        ("KSampler", 0, "VAEDecode", "samples"),
        ("CheckpointLoaderSimple", 2, "VAEDecode", "vae"),
        ("VAEDecode", 0, "SaveImage", "images"),
    ):
        page.connect(nodes[source], output, nodes[target], name)
    return nodes


def mixer_graph(page: ComfyPage, adapter: str, **strengths: float) -> None:
    """The same with a Concept Mixer."""
    nodes = picture_graph(page, adapter)
    node = page.add(MIXER, (360, 760), adapter=adapter, **strengths)
    page.connect(nodes["CheckpointLoaderSimple"], 0, node, "model")
    page.connect(node, 0, nodes["KSampler"], "model")


# From which node's output to which node's input each link goes.
LINKS = """() => app.graph._nodes.flatMap((node) => (node.inputs ?? [])
    .filter((input) => input.link != null)
    .map((input) => {
        const link = app.graph.links.get?.(input.link) ?? app.graph.links[input.link]
        return [link.origin_id, link.origin_slot, node.id, input.name]
    }))"""


def choose_adapters(page: ComfyPage) -> None:
    """What a user does first in a template: choose an adapter file in each node that waits for one."""
    for node in page.nodes("RespoDiffLoadAdapter"):
        title = page.js("(id) => app.graph.getNodeById(id).title", node)
        page.set(node, "adapter", FILES[title])
    for kind, file in ((MIXER, "gender.safetensors"), ("RespoDiffSafety", "safety.safetensors")):
        for node in page.nodes(kind):
            if widget(page, node, "adapter")["value"] == "(none)" and not page.is_connected(node, "computed"):
                page.set(node, "adapter", file)


def set_values(page: ComfyPage) -> dict[int, dict[str, Any]]:
    """Each node's values; the page's own widgets, such as an image's preview, hold none."""
    return {
        node: {name: value for name, value in page.values(node).items() if not name.startswith("$$")}
        for node in page.js("() => app.graph._nodes.map((n) => n.id)")
    }


def outcome(page: ComfyPage) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Queue the graph and wait: the error, if any, and the saved pictures, or those shown first."""
    kinds = ("SaveImage", "RespoDiffSaveImages", "PreviewImage", "RespoDiffGrid")
    first, *_ = [node for kind in kinds for node in page.nodes(kind)]
    return page.run(first)


def failure(page: ComfyPage) -> dict[str, Any]:
    error, _ = outcome(page)
    assert error is not None, "the graph was expected to fail"
    return error


def test_all_nodes_can_be_added(page):
    known = page.js("() => Object.keys(LiteGraph.registered_node_types)")
    assert sorted(type_ for type_ in known if type_.startswith("RespoDiff")) == NODES
    for index, node in enumerate(NODES):
        page.add(node, (360 * (index % 5), 60 + 280 * (index // 5)))
    assert not [line for line in page.console if line.startswith("error") and "respodiff" in line.lower()]


def test_steers_strength_is_a_slider_that_hits_0_and_1(page):
    steer = page.add("RespoDiffSteer", (300, 200))
    strength = widget(page, steer, "strength")
    options = strength["options"]
    assert (strength["type"], strength["value"]) == ("slider", 1)
    assert (options["min"], options["max"], options["step2"]) == (-2, 2, 0.01)
    for value in (0, 1, -2, 2, 0):
        assert slide(page, steer, "strength", value) == value


def test_the_mixers_sliders_hit_0_and_1(page):
    node = page.add(MIXER, (300, 200), adapter="gender.safetensors")
    for value in (1, 0, -1, 0.5, 0):
        assert slide(page, node, "adapter.strength of woman", value) == value


def test_steers_further_inputs_are_advanced(page):
    widgets = page.widgets(page.add("RespoDiffSteer"))
    advanced = [w["name"] for w in widgets if w["options"].get("advanced")]
    assert advanced == ["ram_strength", "sam_strength", "start_percent", "end_percent", "prompt", "curve", "gate"]


class TestConceptMixer:
    def test_shows_one_readable_slider_per_concept_of_the_chosen_file(self, page):
        node = page.add(MIXER, adapter="gender.safetensors")
        assert strengths(page, node) == {"strength of woman": 0, "strength of man": 0}
        page.set(node, "adapter", "safety.safetensors")
        assert list(strengths(page, node)) == ["strength of violence", "strength of sexual"]
        assert {w["options"]["min"] for w in page.widgets(node) if w["type"] == "slider"} == {0}
        page.set(node, "adapter", "gender.safetensors")
        assert list(strengths(page, node)) == ["strength of woman", "strength of man"]
        assert {w["options"]["min"] for w in page.widgets(node) if w["type"] == "slider"} == {-2}

    def test_saved_workflows_of_two_files_open_as_they_were_in_any_order(self, page):
        set_to = {
            "gender.safetensors": {"strength of woman": 0.7, "strength of man": -0.25},
            "race.safetensors": {"strength of white": 1.5, "strength of black": 0.0, "strength of asian": 0.05},
        }
        saved = {}
        for file, values in set_to.items():
            page.clear()
            node = page.add(MIXER, adapter=file, **{f"adapter.{name}": value for name, value in values.items()})
            assert strengths(page, node) == values
            saved[file] = page.save()
        for file in [*saved, *reversed(saved)]:
            page.load(json.loads(json.dumps(saved[file])))
            assert page.values(mixer(page))["adapter"] == file
            assert strengths(page, mixer(page)) == set_to[file]


def test_a_graph_queued_from_the_page_gives_a_picture(page):
    picture_graph(page, concept="woman", strength=1.0)
    error, (image,) = outcome(page)
    assert error is None
    assert page.server.output_path(image).stat().st_size > 500


def test_what_is_refused_is_said_in_the_page(page):
    nodes = picture_graph(page, "safety.safetensors", concept="violence", strength=-0.5)
    error = failure(page)
    assert error["node_id"] == str(nodes["RespoDiffSteer"])
    said = error["exception_message"].strip()
    assert "safety concept" in said
    page.page.get_by_text("View details").first.click()
    page.page.get_by_text(said.split(".")[0]).first.wait_for()


def test_every_node_has_a_help_page(page):
    for node in NODES:
        page.clear()
        title = (PACK / "web" / "docs" / node / "en.md").read_text("utf-8").splitlines()[0].removeprefix("# ")
        page.js("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", page.add(node, (100, 200)))
        button = page.page.locator('[data-testid="info-button"]')
        button.wait_for()
        if not page.page.get_by_role("heading", name="What it cannot promise").is_visible():
            button.click()
        page.page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
        page.page.get_by_role("heading", name="What it cannot promise").wait_for()


def test_growing_inputs_grow_and_come_back(page):
    fair = page.add("RespoDiffFairBatch", (700, 100))
    for number in range(3):
        page.connect(page.add("RespoDiffFairGroup", (100, 100 + 200 * number)), 0, fair, f"groups.group{number}")
    saved = page.save()
    page.load(json.loads(json.dumps(saved)))
    (fair,) = page.nodes("RespoDiffFairBatch")
    linked = page.js("(id) => app.graph.getNodeById(id).inputs.filter((i) => i.link != null).map((i) => i.name)", fair)
    assert linked == ["groups.group0", "groups.group1", "groups.group2"]


def overlap(one: list[float], other: list[float]) -> bool:
    """Whether two boxes (x, y, width, height) have more than an edge in common."""
    return all(
        one[axis] + one[2 + axis] > other[axis] + 1 and other[axis] + other[2 + axis] > one[axis] + 1 for axis in (0, 1)
    )


def holds(box: list[float], x: float, y: float) -> bool:
    return box[0] - 1 <= x <= box[0] + box[2] + 1 and box[1] - 1 <= y <= box[1] + box[3] + 1


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
class TestWorkflows:
    def test_opens_comes_back_from_saving_and_runs(self, page, workflow):
        """As it ships, but smaller: no node or file missing, no error in the console, a picture, nothing lost."""
        content = json.loads(workflow.read_text("utf-8"))
        page.load(content)
        page.quiet()
        assert page.js("() => app.graph._nodes.filter((n) => n.has_errors).map((n) => n.type)") == []
        assert len(page.js("() => app.graph._nodes.map((n) => n.id)")) == len(content["nodes"])
        assert not [line for line in page.console if line.startswith("error")]
        choose_adapters(page)
        page.shrink(64, steps=2)
        before, links = set_values(page), page.js(LINKS)
        page.load(json.loads(json.dumps(page.save())))
        page.quiet()
        assert set_values(page) == before
        assert page.js(LINKS) == links
        error, pictures = outcome(page)
        assert error is None
        assert pictures

    def test_no_node_overlaps_another_or_leaves_its_group(self, page, workflow, kind):
        """Boxes with their titles, as this page draws them. Each node but the note is in one group."""
        content = json.loads(workflow.read_text("utf-8"))
        content["extra"]["linearMode"] = False  # of an app, its graph
        page.load(content)
        page.fit()
        types = dict(page.js("() => app.graph._nodes.map((n) => [n.id, `${n.type} ${n.id}`])"))
        boxes = {types[node]: box for node, box in page.boxes().items()}
        groups = dict(page.js("() => app.graph._groups.map((g, i) => [`${g.title} ${i}`, [...g.pos, ...g.size]])"))
        page.screenshot(SCREENSHOTS / f"{workflow.stem}, {kind}.png")
        assert [names for names in combinations(boxes, 2) if overlap(*(boxes[name] for name in names))] == []
        assert [titles for titles in combinations(groups, 2) if overlap(*(groups[title] for title in titles))] == []
        around = {name: [title for title, box in groups.items() if holds(box, *boxes[name][:2])] for name in boxes}
        assert [name for name, titles in around.items() if len(titles) != (0 if "Note" in name else 1)] == []
        ends = {name: (x + width, y + height) for name, (x, y, width, height) in boxes.items()}
        left = [(name, title) for name, titles in around.items() for title in titles]
        assert [(name, title) for name, title in left if not holds(groups[title], *ends[name])] == []

    def test_is_offered_as_a_template_with_a_picture(self, server, workflow):
        pack = WORKFLOWS[workflow]
        assert workflow.stem in server.get_json("/workflow_templates")[pack]
        folder = f"{server.url}/api/workflow_templates/{pack}"
        with urllib.request.urlopen(f"{folder}/{quote(workflow.stem)}.jpg") as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert len(answer.read()) < 150_000


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_readable_when_it_opens_in_a_laptops_window(workflow):
    """The page shows all of it, with a margin; below 8 of a font's 14 pixels it draws nodes without any text."""
    content = json.loads(workflow.read_text("utf-8"))
    boxes = [(*node["pos"], *node["size"]) for node in content["nodes"]]
    boxes += [tuple(group["bounding"]) for group in content["groups"]]
    for axis, window in enumerate(LAPTOP):
        begin, end = min(box[axis] for box in boxes), max(box[axis] + box[2 + axis] for box in boxes)
        assert 14 * 0.75 * window / (end - begin) > 8


def test_the_first_minute_takes_five_clicks(page):
    """As README says: the pack among the templates, the template, the list of checkpoints, one of them, Run."""
    window = page.page.viewport_size
    page.page.set_viewport_size(dict(zip(("width", "height"), LAPTOP, strict=True)))
    page.open_template(PACK_NAME, "Instant fairness (SD1.5)")
    page.wait("app.graph._nodes.length > 5")
    assert not page.js("() => app.canvas.low_quality")
    page.shrink(64, steps=2)
    (checkpoint,) = page.nodes("CheckpointLoaderSimple")
    page.set(checkpoint, "ckpt_name", "sd_xl_base_1.0.safetensors")
    page.choose(checkpoint, "ckpt_name", CHECKPOINT)
    page.watch_for_the_end()
    page.page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait("window.ended")
    page.page.set_viewport_size(window)
    (grid,) = page.nodes("RespoDiffGrid")
    assert page.pictures(grid)


def test_a_template_opens_as_an_app(page):
    """A page with the prompt, the shares and Run; the app is in the workflow, so it is shared with it."""
    content = json.loads((PACK / "workflows" / "Instant fairness, app (SD1.5).json").read_text("utf-8"))
    page.load(content)
    for text in ("checkpoint", "prompt", "share of women", "share of men", "Run"):
        page.page.get_by_text(text, exact=True).locator("visible=true").first.wait_for()


def test_a_training_shows_how_far_it_is_and_what_it_has_learned(page, kind):
    """Steps, time left and losses as a text on the node, and previews where a sampler shows its own."""
    toyworld = page.add("ToyWorld")
    latent = page.add("EmptyLatentImage", (100, 400), width=128, height=128)
    settings = {"concept": "gender/woman", "steps": 5, "preview_every": 2}
    settings["training_seed"] = 2 * kind.is_newest + kind.nodes_2  # each trains, though the server keeps results
    train = page.add("RespoDiffTrainConcept", (500, 100), **settings)
    shown = page.add("PreviewImage", (1000, 100))
    for source, output, target, name in (
        (toyworld, 0, train, "model"),
        (toyworld, 1, train, "clip"),
        (toyworld, 2, train, "vae"),
        (latent, 0, train, "latent"),
        (train, 1, shown, "images"),
    ):
        page.connect(source, output, target, name)
    page.js(
        """() => {
            window.said = []
            window.previews = []
            const keep = (event, list, value) => {
                app.api.addEventListener(event, ({ detail }) => { list.push(value(detail)) })
            }
            keep("progress_text", window.said, ({ nodeId, text }) => [nodeId, text])
            keep("b_preview", window.previews, ({ type, size }) => [type, size])
        }"""
    )
    error, (curve,) = page.run(shown)
    assert error is None
    assert page.server.output_path(curve).stat().st_size > 500
    said = page.js("() => window.said")
    assert {node for node, _ in said} == {str(train)}
    assert "Sampling the first trajectories" in said[0][1]
    assert re.search(r"Step 5 of 5, 0 s left\nRAM \S+, SAM \S+, adds \S+% of h", said[-1][1])
    previews = page.js("() => window.previews")
    assert len(previews) == 2
    assert all(type_ == "image/jpeg" and size > 500 for type_, size in previews)


class TestBlueprint:
    """Instant fairness as one node, in ComfyUI's library of subgraphs."""

    FILE = PACK / "subgraphs" / "Instant fairness (RespoDiff).json"

    def test_the_library_offers_it(self, server):
        offered = [one for one in server.get_json("/global_subgraphs").values() if one["source"] == "custom_node"]
        assert [(one["name"], one["info"]["node_pack"]) for one in offered] == [
            (self.FILE.stem, f"custom_nodes.{PACK_NAME}")
        ]

    def test_it_opens_with_its_inputs_and_outputs(self, page):
        page.load(json.loads(self.FILE.read_text("utf-8")))
        (node,) = page.js("() => app.graph._nodes.map((n) => [n.title, n.inputs, n.outputs].map((a) => "
                          "typeof a === 'string' ? a : a.map((one) => one.name)))")  # fmt: skip
        title, inputs, outputs = node
        assert title == self.FILE.stem
        assert {"model", "clip", "latent", "groups", "neutral", "axis", "strength"} <= set(inputs)
        assert outputs == ["MODEL", "TEXT"]


# These open the page anew, and come last: all above share one.


def test_a_mixers_values_saved_for_other_concepts_never_steer(page, adapters, pages, kind):
    """Each file is trained anew, with other concepts, after the workflow was saved."""
    now = {"more": ("old", "woman", "man"), "another order": ("man", "woman"), "fewer": ("woman",)}
    for name in now:
        shutil.copy(adapters / "gender.safetensors", adapters / f"{name}.safetensors")
    page.read_adapters()
    saved = {}
    for name in now:
        page.clear()
        strengths = {"adapter.strength of woman": 0.7, "adapter.strength of man": 0.25}
        mixer_graph(page, f"{name}.safetensors", **strengths)
        saved[name] = page.save()
    for name, concepts in now.items():
        write(make_adapter("sd15", *concepts), adapters / f"{name}.safetensors")
    with pages.anew(kind) as later:
        for name, workflow in saved.items():
            later.load(workflow)
            error = failure(later)
            assert error["node_type"] == MIXER, name
            assert "contains other concepts" in error["exception_message"], name


@pytest.fixture(scope="class")
def opened_without_adapters(kind, servers, pages):
    for file in adapters_of(servers(kind.is_newest)).glob("*"):
        file.unlink()
    with pages.anew(kind) as opened:
        yield opened


class TestWithoutAnyAdapter:
    @pytest.fixture
    def empty_page(self, opened_without_adapters):
        opened_without_adapters.clear()
        return opened_without_adapters

    def test_the_nodes_load_all_the_same(self, empty_page):
        for node in NODES:
            empty_page.add(node)
        assert not [line for line in empty_page.console if line.startswith("error") and "respodiff" in line.lower()]

    def test_queueing_says_what_to_do(self, empty_page):
        picture_graph(empty_page, "(choose a file)")
        error = failure(empty_page)
        assert error["node_type"] == "RespoDiffLoadAdapter"
        assert "No adapter is chosen." in error["exception_message"]

    def test_queueing_a_mixer_says_what_to_do(self, empty_page):
        mixer_graph(empty_page, "(none)")
        error = failure(empty_page)
        assert error["node_type"] == MIXER
        assert "This node has no concepts: choose an adapter file on it" in error["exception_message"]


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_the_page_speaks_the_users_language(server, adapters, pages, kind, language):
    texts = read(language)
    server.post_json("/settings/Comfy.Locale", language)
    try:
        with pages.anew(kind) as page:
            for node in NODES:
                id_ = page.add(node, (360 * (NODES.index(node) % 5), 60 + 280 * (NODES.index(node) // 5)))
                shown = page.js("(id) => app.graph.getNodeById(id).title", id_)
                assert shown == texts[node]["display_name"]
            labels = {w["name"]: w["label"] for w in page.widgets(page.nodes("RespoDiffSteer")[0])}
            assert labels["strength"] == texts["RespoDiffSteer"]["inputs"]["strength"]["name"]
    finally:
        server.post_json("/settings/Comfy.Locale", "en")
