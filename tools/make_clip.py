"""Record README's clip of the first minute: Instant fairness on ToyWorld in ComfyUI's page, from the templates on.

Run from the repository's root after a change of the nodes' inputs:
PYTHONPATH=tests python tools/make_clip.py
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from comfy_hosts import NEWEST, PACK, source_of
from comfy_page import ComfyPage, browser, open_page, prepare
from PIL import Image
from respodiff.trainer.toyworld.host import TOYWORLD_PACK_NAME, ToyWorldInComfyUI
from shipped_workflows.on_toyworld import WITHOUT_CHECKPOINT

CLIP = PACK / "docs" / "images" / "first-minute.webp"
WINDOW = (1400, 860)
WIDTH = 1200  # of the clip, which README shows a little smaller
SECONDS = (2.0, 2.0, 1.5, 2.0, 4.0)  # the templates, the graph, while it runs, the images, these larger


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        server = ToyWorldInComfyUI(source_of(NEWEST), Path(tmp))
        prepare(server)
        with server, browser() as chrome, open_page(chrome, server, WINDOW) as page:
            first, *others = recorded(page)
    first.save(
        CLIP,
        save_all=True,
        append_images=others,
        duration=[round(1000 * seconds) for seconds in SECONDS],
        loop=0,
        quality=80,
        method=6,
    )


def recorded(page: ComfyPage) -> list[Image.Image]:
    page.page.get_by_role("button", name="Templates").first.click()
    page.page.get_by_text(TOYWORLD_PACK_NAME, exact=True).click()
    page.page.get_by_role("heading", name=WITHOUT_CHECKPOINT.name).wait_for()
    page.page.wait_for_timeout(1500)  # until its picture is there
    frames = [shot(page)]
    page.page.get_by_role("heading", name=WITHOUT_CHECKPOINT.name).click()
    page.wait("app.graph._nodes.length > 5")
    page.page.wait_for_timeout(1500)
    frames.append(shot(page))
    page.watch_for_the_end()
    page.page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait("app.runningNodeId == 2 || app.runningNodeId == 1")
    page.page.wait_for_timeout(3000)
    frames.append(shot(page))
    page.wait("window.ended")
    page.page.wait_for_timeout(6000)  # until the page's notifications are gone
    frames.append(shot(page))
    page.js(
        """([type], [width, height]) => {
            const { ds } = app.canvas
            const { pos, size } = app.graph._nodes.find((node) => node.type === type)
            ds.scale = (0.8 * height) / size[1]
            ds.offset = [0, 1].map((axis) => [width, height][axis] / ds.scale / 2 - pos[axis] - size[axis] / 2)
        }""",
        ["RespoDiffGrid"],
        WINDOW,
    )
    return [*frames, shot(page)]


def shot(page: ComfyPage) -> Image.Image:
    page.page.mouse.move(WINDOW[0] // 2, WINDOW[1] - 30)  # over nothing
    page.drawn()
    picture = Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")
    return picture.resize((WIDTH, WIDTH * WINDOW[1] // WINDOW[0]), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
