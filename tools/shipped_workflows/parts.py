"""What the shipped workflows have in common: files, notes, nodes, links."""

from __future__ import annotations

from typing import Any

from workflow_drawing import Column, Group, Node, Workflow

SD15 = "v1-5-pruned-emaonly-fp16.safetensors"

PROMPT = "a photo of a doctor"
NEGATIVE = "blurry, low quality"
FILES = "checkpoint and adapter"
NO_ADAPTER = (
    "No adapter yet? Put **RespoDiff Instant Concept** in its place (template *Instant fairness*), or train one in the "
    "graph (*Train a concept*)."
)
LIMITS = (
    "Steering makes something more or less likely. It cannot guarantee what a single image shows, or block unsafe "
    "images."
)


def note(*lines: str, files: str = FILES) -> str:
    """What to do, for the files that the user has to choose first."""
    adapter = (NO_ADAPTER,) if "adapter" in files else ()
    return "\n\n".join((f"Choose your {files}, then Run.", *adapter, *lines, LIMITS))


def checkpoint(name: str = SD15) -> Node:
    return Node("checkpoint", "CheckpointLoaderSimple", {"ckpt_name": name})


def prompts(positive: str = PROMPT, label: str = "", negative: str = NEGATIVE) -> Group:
    return Group(
        "Prompts",
        "prompt",
        [
            Node(
                "positive",
                "CLIPTextEncode",
                {"text": positive},
                "Positive prompt",
                110,
                {"text": label} if label else {},
            ),
            Node("negative", "CLIPTextEncode", {"text": negative}, "Negative prompt", 90),
        ],
    )


def latent(size: int = 512, batch: int = 1) -> Node:
    return Node("latent", "EmptyLatentImage", {"width": size, "height": size, "batch_size": batch})


def sampler(key: str = "sampler", **more: Any) -> Node:
    settings = {"seed": 42, "control_after_generate": "fixed", "steps": 20, "cfg": 7.0, "denoise": 1.0}
    return Node(key, "KSampler", settings | {"sampler_name": "euler", "scheduler": "normal"} | more)


def images(*last: Node, by: Node | None = None) -> Group:
    return Group("Image", "image", [by or sampler(), Node("decode", "VAEDecode"), *last])


SAVE = Node("save", "SaveImage", {"filename_prefix": "RespoDiff"}, height=360)
SAVE_GRID = Node("save", "SaveImage", {"filename_prefix": "RespoDiff"}, height=200)
GRID = Node("grid", "RespoDiffGrid", height=420)
SAVE_NAMED = Node("save", "RespoDiffSaveImages", {"filename_prefix": "RespoDiff/doctor"}, height=300)
TO_SAMPLER = [
    ("positive.0", "sampler.positive"),
    ("negative.0", "sampler.negative"),
    ("latent.0", "sampler.latent_image"),
]
FROM_SAMPLER = [("sampler.0", "decode.samples"), ("checkpoint.2", "decode.vae")]
CLIP = [("checkpoint.1", "positive.clip"), ("checkpoint.1", "negative.clip")]
USUAL = [*TO_SAMPLER, *FROM_SAMPLER, *CLIP]


def fair(
    name: str,
    note: str,
    source: Column,
    adapter: str,
    links: list[tuple[str, str]],
    size: int,
    batch: int,
    *,
    strength: float = 1.0,
    inputs: Group | None = None,
    made: Group | None = None,
    shown: str = "decode.0",
    saved: bool = True,
) -> Workflow:
    """A workflow with a group for every image of a batch, in a labelled grid and, if they are `saved`, in file names.

    `source` has the checkpoint and the node `adapter`, where the groups come from; `links` are those within it. The
    nodes of `inputs` are the prompts, those of `made` the sampler and what follows up to the images that are `shown`.
    """
    saving = [(shown, "save.images"), ("fair.2", "save.names")] if saved else []
    return Workflow(
        name,
        note,
        [
            source,
            Column(
                320,
                [
                    Group(
                        "Fair shares",
                        "steer",
                        [
                            Node("group", "RespoDiffFairGroup", {"concept": "(all of them)", "strength": strength}),
                            Node("fair", "RespoDiffFairBatch", {"batch_size": batch, "seed": 0}),
                        ],
                    ),
                    Group("Size and batch size", "prompt", [latent(size, batch)]),
                ],
            ),
            Column(320, [inputs or prompts(), made or images()]),
            Column(440, [Group("Result", "image", [GRID, SAVE_NAMED] if saved else [GRID])]),
        ],
        [
            *links,
            (f"{adapter}.0", "group.adapter"),
            ("group.0", "fair.groups.group0"),
            ("checkpoint.0", "fair.model"),
            ("latent.0", "fair.latent"),
            ("fair.0", "sampler.model"),
            *USUAL,
            *saving,
            (shown, "grid.images"),
            ("fair.2", "grid.labels"),
        ],
    )
