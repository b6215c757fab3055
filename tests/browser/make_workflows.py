"""Draw the shipped workflows, their thumbnails and the README's picture in the real page.

Run from the repository's root after the nodes' inputs changed: PYTHONPATH=tests python tests/browser/make_workflows.py
Checkpoint and adapter have random weights: the pictures show the page, not what a trained concept looks like.
"""

from __future__ import annotations

import io
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import torch
from comfy_hosts import NEWEST, PACK, make_server, small_checkpoint, source_of
from comfy_page import ComfyPage, browser, open_page, prepare
from PIL import Image
from respodiff.respodiff_core.adapter import Adapter, write
from respodiff.respodiff_core.concept import Concept, ConceptInfo
from respodiff.respodiff_core.transforms import Transform

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
ADAPTER = "gender.safetensors"
Box = tuple[int, int, int, int]  # left, top, width, height
WORKFLOWS = PACK / "workflows"
IMAGES = PACK / "docs" / "images"
H_SHAPE = (320, 32, 32)  # of the small checkpoint at 512 x 512 pixels
GROUPS = {"model": "#3f789e", "prompt": "#88AA88", "steer": "#b58b2a", "picture": "#7b5ea7", "look": "#88AAAA"}

STEER_NOTE = """## Steer a concept

Choose a Stable Diffusion 1.5 checkpoint, and an adapter from `models/respodiff`.

Choose one of its concepts in **RespoDiff Steer** and run.

Strength 0 leaves the model as it is, 1 steers as trained; the seed is fixed, so you can compare.

Steering shifts what is likely in a picture: it promises nothing for a single one and is not a filter.
"""
MIX_NOTE = """Choose a Stable Diffusion 1.5 checkpoint, and the same adapter from `models/respodiff` in both nodes.

Its sliders stand at 0, where nothing changes: move one and run; the seed is fixed, so you can compare.

**Inspect RespoDiff Adapter** shows what the file holds.

Steering shifts what is likely in a picture: it promises nothing for a single one and is not a filter.
"""


def example_adapter() -> Adapter:
    """Two smooth random directions, each strongest at another place; strong enough to show in noise."""
    channels, height, width = H_SHAPE
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    frequencies = torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.fftfreq(width)[None] ** 2
    concepts = {}
    for seed, (name, x, y) in enumerate((("woman", -0.2, -0.3), ("man", 0.25, 0.2)), start=1):
        noise = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))
        smooth = torch.fft.ifft2(torch.fft.fft2(noise) * torch.exp(-300 * frequencies)).real
        ram, sam = smooth / smooth.std()
        around = torch.exp(-3 * ((xs - x) ** 2 + (ys - y) ** 2))
        info = ConceptInfo(name, "fairness", f"a photo of a {name}", "a photo of a person", strength=1.0)
        ram, sam = 40 * (0.15 + around) * ram, 12 * (1 + 0.5 * ys) * sam
        concepts[name] = Concept(info, Transform.of({"": ram}), Transform.of({"": sam}))
    return Adapter("sd15", concepts, "epsilon")


def place(page: ComfyPage, type_: str, box: Box, title: str | None = None, **values: Any) -> int:
    x, y, width, height = box
    node = page.add(type_, (x, y), **values)
    page.js(
        """(id, size, title) => {
            const node = app.graph.getNodeById(id)
            node.setSize(size)
            if (title) node.title = title
        }""",
        node,
        (width, height),
        title,
    )
    return node


def group(page: ComfyPage, title: str, colour: str, box: Box) -> None:
    page.js(
        """(title, color, [x, y, width, height]) => {
            const group = new LiteGraph.LGraphGroup(title)
            Object.assign(group, { color, pos: [x, y], size: [width, height] })
            app.graph.add(group)
        }""",
        title,
        colour,
        box,
    )


def note(page: ComfyPage, box: Box, text: str) -> None:
    node = place(page, "MarkdownNote", box, "What to do")
    page.set(node, page.widgets(node)[0]["name"], text)


def picture(page: ComfyPage, checkpoint: int, model: int, boxes: dict[str, Box]) -> None:
    """Prompts, sampling and the picture: the nodes that both workflows share."""
    positive = place(page, "CLIPTextEncode", boxes["positive"], "Positive prompt", text="a photo of a doctor")
    negative = place(page, "CLIPTextEncode", boxes["negative"], "Negative prompt", text="blurry, low quality")
    latent = place(page, "EmptyLatentImage", boxes["latent"], width=512, height=512, batch_size=1)
    settings = {"seed": 42, "control_after_generate": "fixed", "steps": 20, "cfg": 7.0, "denoise": 1.0}
    sampler = place(page, "KSampler", boxes["sampler"], **settings, sampler_name="euler", scheduler="normal")
    decode = place(page, "VAEDecode", boxes["decode"])
    save = place(page, "SaveImage", boxes["save"], filename_prefix="RespoDiff")
    page.connect(checkpoint, 1, positive, "clip")
    page.connect(checkpoint, 1, negative, "clip")
    page.connect(model, 0, sampler, "model")
    page.connect(positive, 0, sampler, "positive")
    page.connect(negative, 0, sampler, "negative")
    page.connect(latent, 0, sampler, "latent_image")
    page.connect(sampler, 0, decode, "samples")
    page.connect(checkpoint, 2, decode, "vae")
    page.connect(decode, 0, save, "images")


def draw_steer(page: ComfyPage) -> None:
    group(page, "Model and adapter", GROUPS["model"], (0, 0, 360, 310))
    checkpoint = place(page, "CheckpointLoaderSimple", (20, 70, 320, 98), ckpt_name=CHECKPOINT)
    adapter = place(page, "RespoDiffLoadAdapter", (20, 228, 320, 58), adapter=ADAPTER)
    note(page, (0, 360, 360, 320), STEER_NOTE)
    group(page, "Steer", GROUPS["steer"], (380, 0, 360, 310))
    steer = place(page, "RespoDiffSteer", (400, 70, 320, 222), concept="woman", strength=1.0)
    page.connect(checkpoint, 0, steer, "model")
    page.connect(adapter, 0, steer, "adapter")
    group(page, "Prompt", GROUPS["prompt"], (380, 330, 360, 350))
    group(page, "Picture", GROUPS["picture"], (760, 0, 760, 680))
    boxes = {
        "positive": (400, 400, 320, 110),
        "negative": (400, 555, 320, 105),
        "latent": (780, 70, 280, 106),
        "sampler": (780, 240, 280, 262),
        "decode": (780, 565, 280, 46),
        "save": (1090, 70, 410, 590),
    }
    picture(page, checkpoint, steer, boxes)


def draw_mix(page: ComfyPage) -> None:
    note(page, (0, 30, 300, 190), MIX_NOTE)
    group(page, "Model", GROUPS["model"], (320, 0, 320, 220))
    checkpoint = place(page, "CheckpointLoaderSimple", (340, 70, 280, 98), ckpt_name=CHECKPOINT)
    group(page, "Steer", GROUPS["steer"], (660, 0, 360, 220))
    mixer = place(page, "RespoDiffConceptMixer", (680, 70, 320, 130), adapter=ADAPTER)
    page.connect(checkpoint, 0, mixer, "model")
    group(page, "What the adapter holds", GROUPS["look"], (0, 240, 640, 590))
    adapter = place(page, "RespoDiffLoadAdapter", (20, 310, 280, 58), adapter=ADAPTER)
    inspect = place(page, "RespoDiffInspectAdapter", (320, 310, 300, 500))
    text = place(page, "PreviewAny", (20, 430, 280, 380))
    page.connect(adapter, 0, inspect, "adapter")
    page.connect(inspect, 0, text, "source")
    group(page, "Prompt and size", GROUPS["prompt"], (660, 240, 360, 590))
    group(page, "Picture", GROUPS["picture"], (1040, 0, 540, 830))
    boxes = {
        "positive": (680, 310, 320, 140),
        "negative": (680, 510, 320, 115),
        "latent": (680, 690, 320, 106),
        "sampler": (1060, 70, 300, 262),
        "decode": (1380, 70, 180, 46),
        "save": (1060, 395, 500, 415),
    }
    picture(page, checkpoint, mixer, boxes)


def save(page: ComfyPage, name: str) -> None:
    workflow = page.save()
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))  # else another one each time
    (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=2) + "\n", "utf-8")


def fit(page: ComfyPage) -> Box:
    """The whole graph in view, nothing selected; its place on the screen: left, top, right, bottom."""
    left, top, right, bottom = page.js(
        """() => {
            app.canvas.deselectAll()
            const boxes = app.graph._groups.map((g) => [...g.pos, ...g.size])
            const right = Math.max(...boxes.map(([x, y, w]) => x + w))
            const bottom = Math.max(...boxes.map(([x, y, w, h]) => y + h))
            const [left, top, margin] = [60, 100, 16]  // the page's own bars
            const scale = Math.min((innerWidth - left - 2 * margin) / right, (innerHeight - top - 2 * margin) / bottom)
            const x = (left + (innerWidth - left - right * scale) / 2) / scale
            const y = (top + (innerHeight - top - bottom * scale) / 2) / scale
            app.canvas.ds.scale = scale
            app.canvas.ds.offset = [x, y]
            app.canvas.setDirty(true, true)
            return [x * scale, y * scale, (x + right) * scale, (y + bottom) * scale]
        }"""
    )
    page.page.mouse.move(900, 20)
    page.page.wait_for_timeout(1500)
    return int(left) - 12, int(top) - 12, int(right) + 12, int(bottom) + 12


def shot(page: ComfyPage) -> Image.Image:
    return Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")


def run(page: ComfyPage) -> None:
    (saver,) = page.nodes("SaveImage")
    if not page.queue():
        raise RuntimeError("ComfyUI did not accept the workflow")
    page.wait(f"app.lastExecutionError || app.nodeOutputs[{saver}]?.images?.length", 500)
    if error := page.js("() => app.lastExecutionError ?? null"):
        raise RuntimeError(error["exception_message"])
    page.page.wait_for_timeout(6000)  # until the page's messages have gone


def main() -> None:
    source = source_of(NEWEST)
    with tempfile.TemporaryDirectory() as tmp:
        server = make_server(source, Path(tmp))
        checkpoints, adapters = server.base_directory / "models/checkpoints", server.base_directory / "models/respodiff"
        for folder in (checkpoints, adapters):
            folder.mkdir()
        (checkpoints / CHECKPOINT).symlink_to(small_checkpoint(source, "checkpoints/sd15.safetensors"))
        write(example_adapter(), adapters / ADAPTER)
        prepare(server, **{"Comfy.Graph.CanvasMenu": False})
        for folder in (WORKFLOWS, IMAGES):
            folder.mkdir(parents=True, exist_ok=True)
        with server, browser() as chrome:
            for name, draw in (("Steer a concept (SD1.5)", draw_steer), ("Mix concepts (SD1.5)", draw_mix)):
                with open_page(chrome, server) as page:
                    draw(page)
                    fit(page)
                    save(page, name)
                    if draw is draw_mix:
                        (mixer,) = page.nodes("RespoDiffConceptMixer")
                        page.set(mixer, "adapter.strength of woman", 0.8)
                        page.set(mixer, "adapter.strength of man", -0.4)
                    run(page)
                    graph = fit(page)
                    whole = shot(page)
                    if draw is draw_mix:
                        whole.save(IMAGES / "page.png")
                    thumbnail = whole.crop(graph)
                    thumbnail.thumbnail((960, 960), Image.Resampling.LANCZOS)
                    thumbnail.save(WORKFLOWS / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
