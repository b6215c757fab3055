"""Take the screenshot in README: Fair Batch on ToyWorld in ComfyUI's page.

Run from the repository's root after a change of the nodes' inputs:
PYTHONPATH=tests python tools/make_page_picture.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from comfy_hosts import NEWEST, PACK, source_of
from comfy_page import browser, open_page, prepare
from make_thumbnails import DOCTOR, train_adapters
from respodiff.trainer.toyworld import TOYWORLD_FOLDER
from respodiff.trainer.toyworld.host import ToyWorldInComfyUI
from toyworld_graph import SIZE
from workflow_drawing import Column, Group, Node, Workflow, draw

SCREENSHOT = PACK / "docs" / "images" / "page.png"
MODEL = "toyworld"  # a link in the server's folder, so that the screenshot shows no path of this machine
IMAGES = 6
WINDOW = (1920, 860)


def prompt(key: str, text: str, title: str) -> Node:
    return Node(key, "ToyWorldPrompts", {"folder": MODEL, "prompts": text}, title, 140)


WORKFLOW = Workflow(
    "Fair Batch on ToyWorld",
    "Six images in one batch and one sampler call: half with round heads, half with square ones. Without Fair Batch "
    "nearly every doctor of ToyWorld has a round head.",
    [
        Column(
            320,
            [
                Group(
                    "Model and adapter",
                    "model",
                    [
                        Node("model", "ToyWorldLoader", {"folder": MODEL}),
                        Node("adapter", "RespoDiffLoadAdapter", {"adapter": "shape.safetensors"}),
                    ],
                )
            ],
        ),
        Column(
            340,
            [
                Group(
                    "Fair shares",
                    "steer",
                    [
                        Node("group", "RespoDiffFairGroup", {"concept": "(all of them)"}),
                        Node("fair", "RespoDiffFairBatch", {"batch_size": IMAGES, "seed": 0}),
                    ],
                )
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Prompts",
                    "prompt",
                    [prompt("positive", DOCTOR, "Positive prompt"), prompt("negative", "", "Negative prompt")],
                ),
                Group(
                    "Size and batch size",
                    "prompt",
                    [Node("latent", "EmptyLatentImage", {"width": SIZE, "height": SIZE, "batch_size": IMAGES})],
                ),
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Image",
                    "image",
                    [
                        Node(
                            "sampler",
                            "KSampler",
                            {
                                "seed": 17,
                                "control_after_generate": "fixed",
                                "steps": 50,
                                "cfg": 7.5,
                                "sampler_name": "ddim",
                                "scheduler": "ddim_uniform",
                                "denoise": 1.0,
                            },
                        ),
                        Node("decode", "ToyWorldDecode", {"folder": MODEL}),
                        Node("larger", "ImageScaleBy", {"upscale_method": "bicubic", "scale_by": 3.0}),
                    ],
                )
            ],
        ),
        Column(520, [Group("Result", "image", [Node("grid", "RespoDiffGrid", height=480)])]),
    ],
    [
        ("adapter.0", "group.adapter"),
        ("group.0", "fair.groups.group0"),
        ("model.0", "fair.model"),
        ("latent.0", "fair.latent"),
        ("fair.0", "sampler.model"),
        ("positive.0", "sampler.positive"),
        ("negative.0", "sampler.negative"),
        ("latent.0", "sampler.latent_image"),
        ("sampler.0", "decode.samples"),
        ("decode.0", "larger.image"),
        ("larger.0", "grid.images"),
        ("fair.2", "grid.labels"),
    ],
    note_height=180,
)


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        server = ToyWorldInComfyUI(source_of(NEWEST), Path(tmp), TOYWORLD_FOLDER)
        train_adapters(server.base_directory / "models" / "respodiff", "shape")
        (server.base_directory / MODEL).symlink_to(TOYWORLD_FOLDER)
        prepare(server, **{"Comfy.Graph.CanvasMenu": False})
        with server, browser() as chrome, open_page(chrome, server, WINDOW) as page:
            nodes = draw(page, WORKFLOW)
            error, _ = page.run(nodes["grid"])
            if error is not None:
                raise RuntimeError(error["exception_message"])
            page.page.wait_for_timeout(6000)  # until the page's notifications are gone
            page.fit()
            page.page.screenshot(path=SCREENSHOT)


if __name__ == "__main__":
    main()
