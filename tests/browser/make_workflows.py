"""Draw the shipped workflows, their thumbnails and the README's picture in the real page.

Run from the repository's root after the nodes' inputs changed: PYTHONPATH=tests python tests/browser/make_workflows.py
With words of a name only that workflow is made. Models and adapters have random weights: the pictures show the page,
not what a trained concept looks like.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import uuid
from pathlib import Path

from comfy_hosts import NEWEST, PACK, make_server, source_of
from comfy_page import ComfyPage, browser, open_page, prepare
from PIL import Image
from shipped_workflows import MIX, WORKFLOWS
from workflow_drawing import draw
from workflow_models import put_adapters, put_models

FOLDER = PACK / "workflows"
IMAGES = PACK / "docs" / "images"
Box = tuple[int, int, int, int]  # left, top, right, bottom
THUMBNAIL_SIZE = 256  # pixels of the pictures in thumbnails: enough to see, and soon done
WINDOW = (1920, 1000)


def save(page: ComfyPage, name: str) -> None:
    workflow = page.save()
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))  # else another one each time
    (FOLDER / f"{name}.json").write_text(json.dumps(workflow, indent=2) + "\n", "utf-8")


def fit(page: ComfyPage) -> Box:
    """The whole graph in view, nothing selected; its place on the screen."""
    left, top, right, bottom = page.js(
        """() => {
            app.canvas.deselectAll()
            const boxes = [
                ...app.graph._groups.map((g) => [...g.pos, ...g.size]),
                ...app.graph._nodes.map((n) => [...n.pos, ...n.size]),
            ]
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
    """Queue it, smaller than it is saved, and wait for the picture."""
    page.shrink(THUMBNAIL_SIZE, steps=4)
    (saver,) = [*page.nodes("SaveImage"), *page.nodes("RespoDiffSaveImages")]
    if not page.queue():
        raise RuntimeError("ComfyUI did not accept the workflow")
    page.wait(f"app.lastExecutionError || app.nodeOutputs[{saver}]?.images?.length", 500)
    if error := page.js("() => app.lastExecutionError ?? null"):
        raise RuntimeError(error["exception_message"])
    page.page.wait_for_timeout(6000)  # until the page's messages have gone


def main() -> None:
    wanted = " ".join(sys.argv[1:]).lower()
    source = source_of(NEWEST)
    with tempfile.TemporaryDirectory() as tmp:
        server = make_server(source, Path(tmp))
        put_models(server)
        put_adapters(server.base_directory / "models" / "respodiff")
        prepare(server, **{"Comfy.Graph.CanvasMenu": False})
        for folder in (FOLDER, IMAGES):
            folder.mkdir(parents=True, exist_ok=True)
        with server, browser() as chrome:
            for workflow in WORKFLOWS:
                if wanted not in workflow.name.lower():
                    continue
                print(workflow.name)
                with open_page(chrome, server, WINDOW) as page:
                    nodes = draw(page, workflow)
                    fit(page)
                    save(page, workflow.name)
                    if workflow is MIX:
                        page.set(nodes["mixer"], "adapter.strength of woman", 0.8)
                        page.set(nodes["mixer"], "adapter.strength of man", -0.4)
                    run(page)
                    graph = fit(page)
                    whole = shot(page)
                    if workflow is MIX:
                        whole.save(IMAGES / "page.png")
                    thumbnail = whole.crop(graph)
                    thumbnail.thumbnail((960, 960), Image.Resampling.LANCZOS)
                    thumbnail.save(FOLDER / f"{workflow.name}.jpg", quality=82)


if __name__ == "__main__":
    main()
