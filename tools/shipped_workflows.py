"""Definitions of the shipped workflows. make_workflows creates them in ComfyUI's page and saves them."""

from __future__ import annotations

from typing import Any

from respodiff.respodiff_core.learning.contrast_presets import CONTRASTS
from workflow_drawing import App, Column, Group, Node, Workflow

SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
SDXL = "sd_xl_base_1.0.safetensors"
CONTROLNET = "control_v11p_sd15_canny_fp16.safetensors"
LORA = "add_detail.safetensors"
# Titles of nodes that load an adapter; which file it is, everyone chooses.
GENDER, RACE, RACE_SDXL = "Gender adapter", "Race adapter", "Race adapter (SDXL)"
PROMPT = "a photo of a doctor"
NEGATIVE = "blurry, low quality"

_FILES = "checkpoint and adapter"
_NO_ADAPTER = (
    "No adapter yet? Put **RespoDiff Instant Concept** in its place (template *Instant fairness*), or train one in the "
    "graph (*Train a concept*)."
)
_LIMITS = (
    "Steering makes something more or less likely. It cannot guarantee what a single image shows, or block unsafe "
    "images."
)
_ONLY_GRID = "Only the grid is saved; add **Save RespoDiff Images** to keep each."


def _note(*lines: str, files: str = _FILES) -> str:
    """What to do, for the files that the user has to choose first."""
    adapter = (_NO_ADAPTER,) if "adapter" in files else ()
    return "\n\n".join((f"Choose your {files}, then Run.", *adapter, *lines, _LIMITS))


def _checkpoint(name: str = SD15) -> Node:
    return Node("checkpoint", "CheckpointLoaderSimple", {"ckpt_name": name})


def _adapter(title: str, key: str = "adapter") -> Node:
    return Node(key, "RespoDiffLoadAdapter", {"adapter": "(choose a file)"}, title)


def _prompts(positive: str = PROMPT, label: str = "") -> Group:
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
            Node("negative", "CLIPTextEncode", {"text": NEGATIVE}, "Negative prompt", 90),
        ],
    )


def _latent(size: int = 512, batch: int = 1) -> Node:
    return Node("latent", "EmptyLatentImage", {"width": size, "height": size, "batch_size": batch})


def _sampler(key: str = "sampler", **more: Any) -> Node:
    settings = {"seed": 42, "control_after_generate": "fixed", "steps": 20, "cfg": 7.0, "denoise": 1.0}
    return Node(key, "KSampler", settings | {"sampler_name": "euler", "scheduler": "normal"} | more)


def _images(*last: Node, sampler: Node | None = None) -> Group:
    return Group("Image", "image", [sampler or _sampler(), Node("decode", "VAEDecode"), *last])


MIXER = Node("mixer", "RespoDiffConceptMixer", {"adapter": "(none)"}, height=260)
INSPECT = Node("inspect", "RespoDiffInspectAdapter", height=330)
SAFETY_NODE = Node("safety", "RespoDiffSafety", {"adapter": "(none)"}, height=200)
SAVE = Node("save", "SaveImage", {"filename_prefix": "RespoDiff"}, height=360)
SAVE_GRID = Node("save", "SaveImage", {"filename_prefix": "RespoDiff"}, height=200)
GRID = Node("grid", "RespoDiffGrid", height=420)
SAVE_NAMED = Node("save", "RespoDiffSaveImages", {"filename_prefix": "RespoDiff/doctor"}, height=300)

_TO_SAMPLER = [
    ("positive.0", "sampler.positive"),
    ("negative.0", "sampler.negative"),
    ("latent.0", "sampler.latent_image"),
]
_FROM_SAMPLER = [("sampler.0", "decode.samples"), ("checkpoint.2", "decode.vae")]
_CLIP = [("checkpoint.1", "positive.clip"), ("checkpoint.1", "negative.clip")]
_USUAL = [*_TO_SAMPLER, *_FROM_SAMPLER, *_CLIP]

STEER = Workflow(
    "Steer a concept (SD1.5)",
    _note(
        "Choose one of its concepts in **RespoDiff Steer**. Strength 0 has no effect, 1 is the strength recommended by "
        "the file. The seed is fixed so that you can compare results.",
    ),
    [
        Column(320, [Group("Model and adapter", "model", [_checkpoint(), _adapter(GENDER)])]),
        Column(320, [Group("Steer", "steer", [Node("steer", "RespoDiffSteer", {"concept": "woman"})]), _prompts()]),
        Column(320, [_images(sampler=_sampler()), Group("Size", "prompt", [_latent()])]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "steer.model"),
        ("adapter.0", "steer.adapter"),
        ("steer.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "save.images"),
    ],
)

MIX = Workflow(
    "Mix concepts (SD1.5)",
    _note(
        "The adapter is chosen twice: in **Concept Mixer** (loads the file itself) and in **Load RespoDiff Adapter** "
        "(only for Inspect, which shows the contents of the file).",
        "The mixer's sliders are at 0 and have no effect: move one and run. The seed is fixed for comparison.",
    ),
    [
        Column(300, [Group("Model and adapter", "model", [_checkpoint(), _adapter(GENDER)])]),
        Column(320, [Group("Steer", "steer", [MIXER]), _prompts()]),
        Column(300, [Group("Inspect", "look", [INSPECT, Node("text", "PreviewAny", height=240)])]),
        Column(320, [_images(sampler=_sampler()), Group("Size", "prompt", [_latent()])]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "mixer.model"),
        ("mixer.0", "sampler.model"),
        ("adapter.0", "inspect.adapter"),
        ("inspect.0", "text.source"),
        *_USUAL,
        ("decode.0", "save.images"),
    ],
)


def _fair(
    name: str, note: str, source: Column, adapter: str, links: list[tuple[str, str]], size: int, batch: int
) -> Workflow:
    """A workflow with a group for every image of a batch, shown in file names and in a labelled grid. `source` has the
    checkpoint and the node `adapter`, where the groups come from; `links` are those within it.
    """
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
                            Node("group", "RespoDiffFairGroup", {"concept": "(all of them)"}),
                            Node("fair", "RespoDiffFairBatch", {"batch_size": batch, "seed": 0}),
                        ],
                    ),
                ],
            ),
            Column(320, [_prompts(), Group("Size and batch size", "prompt", [_latent(size, batch)])]),
            Column(320, [_images(SAVE_NAMED)]),
            Column(440, [Group("Result", "image", [GRID])]),
        ],
        [
            *links,
            (f"{adapter}.0", "group.adapter"),
            ("group.0", "fair.groups.group0"),
            ("checkpoint.0", "fair.model"),
            ("latent.0", "fair.latent"),
            ("fair.0", "sampler.model"),
            *_USUAL,
            ("decode.0", "save.images"),
            ("fair.2", "save.names"),
            ("decode.0", "grid.images"),
            ("fair.2", "grid.labels"),
        ],
    )


def _files_for(checkpoint: str, title: str) -> Column:
    return Column(320, [Group("Model and adapter", "model", [_checkpoint(checkpoint), _adapter(title)])])


GENDER_SD15 = _fair(
    "Fair Batch, gender (SD1.5)",
    _note(
        "Every image of the batch is assigned a group, with equal shares, in one sampler call.",
        "**Fair Group** turns every concept except safety concepts into a group. For other shares use one node per "
        "concept.",
        "The group is saved in the file name and the metadata. Fair Batch's own seed (not KSampler's) is set to "
        "increment, so the shares are also met over several runs.",
    ),
    _files_for(SD15, GENDER),
    "adapter",
    [],
    512,
    4,
)
RACE_SDXL_WORKFLOW = _fair(
    "Fair Batch, race (SDXL)",
    _note(
        "Every image of the batch is assigned a group, here race, as in the template *Fair Batch, gender (SD1.5)*.",
        "Out of memory? Set batch_size in **Empty Latent Image** to 1 (Fair Batch's is ignored here) and KSampler's "
        "seed to randomize. Any three runs in a row give each of three groups one image.",
        files="SDXL checkpoint and an adapter trained on SDXL",
    ),
    _files_for(SDXL, RACE_SDXL),
    "adapter",
    [],
    1024,
    3,
)

_BOTH_ADAPTERS = (_adapter(GENDER, "gender"), _adapter(RACE, "race"))
CROSSED = Workflow(
    "Fair Batch, gender x race (SD1.5)",
    _note(
        "Six images, one for each pair of groups. " + _ONLY_GRID,
        "Two concepts weaken each other, so you can scale both axes (sets of groups): first_scale (gender) is 1.1, "
        "second_scale (race) 0.9.",
        files="checkpoint and two adapters",
    ),
    [
        Column(320, [Group("Model and adapters", "model", [_checkpoint(), *_BOTH_ADAPTERS])]),
        Column(
            320,
            [
                Group(
                    "Two axes",
                    "steer",
                    [
                        Node("gender_groups", "RespoDiffFairGroup", {"concept": "(all of them)"}, "Gender groups"),
                        Node("race_groups", "RespoDiffFairGroup", {"concept": "(all of them)"}, "Race groups"),
                        Node("cross", "RespoDiffCrossGroups", {"first_scale": 1.1, "second_scale": 0.9}),
                    ],
                )
            ],
        ),
        Column(
            320,
            [
                Group("Fair shares", "steer", [Node("fair", "RespoDiffFairBatch", {"batch_size": 6})]),
                _prompts(),
            ],
        ),
        Column(320, [Group("Size and batch size", "prompt", [_latent(512, 6)]), _images()]),
        Column(480, [Group("Result", "image", [GRID, SAVE_GRID])]),
    ],
    [
        ("gender.0", "gender_groups.adapter"),
        ("race.0", "race_groups.adapter"),
        ("gender_groups.0", "cross.first"),
        ("race_groups.0", "cross.second"),
        ("cross.0", "fair.groups.group0"),
        ("checkpoint.0", "fair.model"),
        ("latent.0", "fair.latent"),
        ("fair.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "grid.images"),
        ("fair.2", "grid.labels"),
        ("grid.0", "save.images"),
    ],
)

SAFE = Workflow(
    "Safety (SD1.5)",
    _note(
        "**RespoDiff Safety** steers away from each safety concept of its file. 1 is the recommended strength. Try "
        "many seeds.",
    ),
    [
        Column(320, [Group("Model", "model", [_checkpoint()]), Group("Safety", "steer", [SAFETY_NODE])]),
        Column(320, [_prompts("a photo of a protest in a city"), Group("Size", "prompt", [_latent(512, 2)])]),
        Column(320, [_images()]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [("checkpoint.0", "safety.model"), ("safety.0", "sampler.model"), *_USUAL, ("decode.0", "save.images")],
)

COMPANY = Workflow(
    "Fairness + safety + LoRA + ControlNet (SD1.5)",
    _note(
        "The order of LoRA, Safety and Fair Batch in the MODEL chain does not matter. The edges of the input image "
        "guide the composition.",
        "Fairness and safety disturb each other: check the images, and lower a strength if details get lost.",
        files="checkpoint, LoRA, ControlNet and two adapters",
    ),
    [
        Column(
            320,
            [
                Group(
                    "Model and adapter",
                    "model",
                    [
                        _checkpoint(),
                        Node("lora", "LoraLoader", {"lora_name": LORA, "strength_model": 0.7, "strength_clip": 0.7}),
                        _adapter(GENDER),
                    ],
                )
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Fairness and safety",
                    "steer",
                    [
                        SAFETY_NODE,
                        Node("group", "RespoDiffFairGroup", {"concept": "(all of them)"}),
                        Node("fair", "RespoDiffFairBatch", {"batch_size": 2}),
                    ],
                )
            ],
        ),
        Column(320, [_prompts(), Group("Size and batch size", "prompt", [_latent(512, 2)])]),
        Column(
            320,
            [
                Group(
                    "ControlNet",
                    "look",
                    [
                        Node("image", "LoadImage", {"image": "example.png"}, height=260),
                        Node("canny", "Canny", {"low_threshold": 0.3, "high_threshold": 0.7}),
                        Node("controlnet", "ControlNetLoader", {"control_net_name": CONTROLNET}),
                        Node("control", "ControlNetApplyAdvanced", {"strength": 0.8}),
                    ],
                )
            ],
        ),
        Column(320, [_images(SAVE_NAMED)]),
    ],
    [
        ("checkpoint.0", "lora.model"),
        ("checkpoint.1", "lora.clip"),
        ("lora.0", "safety.model"),
        ("safety.0", "fair.model"),
        ("adapter.0", "group.adapter"),
        ("group.0", "fair.groups.group0"),
        ("latent.0", "fair.latent"),
        ("lora.1", "positive.clip"),
        ("lora.1", "negative.clip"),
        ("image.0", "canny.image"),
        ("canny.0", "control.image"),
        ("controlnet.0", "control.control_net"),
        ("positive.0", "control.positive"),
        ("negative.0", "control.negative"),
        ("fair.0", "sampler.model"),
        ("control.0", "sampler.positive"),
        ("control.1", "sampler.negative"),
        ("latent.0", "sampler.latent_image"),
        *_FROM_SAMPLER,
        ("decode.0", "save.images"),
        ("fair.2", "save.names"),
    ],
)

HIRES = Workflow(
    "Hires fix (SD1.5)",
    _note(
        "Both passes use the same steered MODEL: an adapter works at any image size.",
        "One strength normally suits both passes. If the second pass overdoes it, give it its own Steer node with a "
        "lower strength.",
    ),
    [
        Column(320, [Group("Model and adapter", "model", [_checkpoint(), _adapter(GENDER)])]),
        Column(320, [Group("Steer", "steer", [Node("steer", "RespoDiffSteer", {"concept": "woman"})]), _prompts()]),
        Column(320, [Group("First pass", "image", [_latent(), _sampler()])]),
        Column(
            320,
            [
                Group(
                    "Second pass",
                    "image",
                    [
                        Node("larger", "LatentUpscaleBy", {"upscale_method": "bicubic", "scale_by": 1.5}),
                        _sampler("again", denoise=0.5, steps=14),
                        Node("decode", "VAEDecode"),
                    ],
                )
            ],
        ),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "steer.model"),
        ("adapter.0", "steer.adapter"),
        ("steer.0", "sampler.model"),
        ("steer.0", "again.model"),
        *_CLIP,
        *_TO_SAMPLER,
        ("positive.0", "again.positive"),
        ("negative.0", "again.negative"),
        ("sampler.0", "larger.samples"),
        ("larger.0", "again.latent_image"),
        ("again.0", "decode.samples"),
        ("checkpoint.2", "decode.vae"),
        ("decode.0", "save.images"),
    ],
)

SWEEP = Workflow(
    "Strength sweep XY (SD1.5)",
    _note(
        "Twelve images from the same noise in one batch: the first concept's strength changes along each row, the "
        "second concept's from row to row. To sweep only one concept, disconnect adapter_y.",
        "Only the grid is saved; add **Save Image** after VAE Decode for each.",
    ),
    [
        Column(
            320,
            [
                Group("Model and adapter", "model", [_checkpoint(), _adapter(GENDER)]),
                Group("Size", "prompt", [_latent()]),
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Sweep",
                    "steer",
                    [
                        Node(
                            "sweep",
                            "RespoDiffStrengthSweep",
                            {
                                "concept": "woman",
                                "strengths": "-1, 0, 0.5, 1",
                                "concept_y": "man",
                                "strengths_y": "0 to 1 in 3",
                            },
                        )
                    ],
                ),
                _prompts(),
            ],
        ),
        Column(320, [_images()]),
        Column(520, [Group("Result", "image", [GRID, SAVE_GRID])]),
    ],
    [
        ("checkpoint.0", "sweep.model"),
        ("adapter.0", "sweep.adapter"),
        ("adapter.0", "sweep.adapter_y"),
        ("latent.0", "sweep.latent"),
        ("sweep.0", "sampler.model"),
        ("positive.0", "sampler.positive"),
        ("negative.0", "sampler.negative"),
        ("sweep.1", "sampler.latent_image"),
        *_FROM_SAMPLER,
        *_CLIP,
        ("decode.0", "grid.images"),
        ("sweep.2", "grid.sweep"),
        ("grid.0", "save.images"),
    ],
)

REGION = Workflow(
    "Regional mask and timing (SD1.5)",
    _note(
        "One concept on the left and another on the right, with a mask and its inverse. If you change the image size, "
        "change both masks. For a soft edge put **Feather Mask** (*right*) after *Left half*.",
        "**start_percent**, **end_percent** and **curve** (advanced inputs of the Steer nodes) set when and how "
        "strongly a concept acts. The right one fades out: the model determines the fine details. "
        "Outside a mask the image can still change slightly.",
    ),
    [
        Column(320, [Group("Model and adapter", "model", [_checkpoint(), _adapter(GENDER)])]),
        Column(
            320,
            [
                Group(
                    "Regions",
                    "look",
                    [
                        Node("left", "SolidMask", {"value": 1.0, "width": 256, "height": 512}, "Left half (white)"),
                        Node("none", "SolidMask", {"value": 0.0, "width": 512, "height": 512}, "Empty mask"),
                        Node("mask", "MaskComposite", {"x": 0, "y": 0, "operation": "add"}),
                        Node("inverse", "InvertMask"),
                    ],
                ),
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Steer",
                    "steer",
                    [
                        Node("one", "RespoDiffSteer", {"concept": "woman"}, "Steer: left"),
                        Node("other", "RespoDiffSteer", {"concept": "man", "curve": "fade out"}, "Steer: right"),
                    ],
                )
            ],
        ),
        Column(320, [_prompts("a photo of two doctors"), Group("Size", "prompt", [_latent()])]),
        Column(320, [_images()]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("none.0", "mask.destination"),
        ("left.0", "mask.source"),
        ("mask.0", "inverse.mask"),
        ("mask.0", "one.mask"),
        ("inverse.0", "other.mask"),
        ("checkpoint.0", "one.model"),
        ("adapter.0", "one.adapter"),
        ("adapter.0", "other.adapter"),
        ("one.0", "other.model"),
        ("other.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "save.images"),
    ],
)

GUARD = Workflow(
    "Prompt guard (SD1.5)",
    _note(
        "Edit the text in **Prompt**: it goes to CLIP and to **Prompt Guard**, which keeps steering from overriding "
        "it.",
        "With 'a photo of a doctor', half of the images get 'woman', half 'man'. With 'a photo of a male doctor' "
        "gender is muted (not steered), and the report says why.",
        "In other languages than English no group is steered. " + _ONLY_GRID,
    ),
    [
        Column(
            320,
            [
                Group(
                    "Prompt (type here)",
                    "prompt",
                    [Node("text", "PrimitiveStringMultiline", {"value": PROMPT}, "Prompt", 110)],
                ),
                Group("Model and adapter", "model", [_checkpoint(), _adapter(GENDER)]),
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Guarded fairness",
                    "steer",
                    [
                        Node("guard", "RespoDiffPromptGuard"),
                        Node("report", "PreviewAny", title="Report of the guard", height=110),
                        Node("group", "RespoDiffFairGroup", {"concept": "(all of them)"}),
                        Node("fair", "RespoDiffFairBatch", {"batch_size": 4}),
                    ],
                )
            ],
        ),
        Column(
            320,
            [
                Group(
                    "Encode prompts",
                    "prompt",
                    [
                        Node("positive", "CLIPTextEncode", title="Positive prompt"),
                        Node("negative", "CLIPTextEncode", {"text": NEGATIVE}, "Negative prompt", 90),
                    ],
                ),
                Group("Size and batch size", "prompt", [_latent(512, 4)]),
            ],
        ),
        Column(320, [_images()]),
        Column(440, [Group("Result", "image", [GRID, SAVE_GRID])]),
    ],
    [
        ("text.0", "positive.text"),
        ("text.0", "guard.prompt"),
        ("adapter.0", "guard.adapters.adapter0"),
        ("guard.3", "report.source"),
        ("guard.0", "group.adapter"),
        ("group.0", "fair.groups.group0"),
        ("checkpoint.0", "fair.model"),
        ("latent.0", "fair.latent"),
        ("fair.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "grid.images"),
        ("fair.2", "grid.labels"),
        ("grid.0", "save.images"),
    ],
)

INSTANT_TIME = "The concept is made first, in about the time of 40 images; then it is kept until you change its inputs."
INSTANT_GENDER = Node("instant", "RespoDiffInstantConcept", {}, height=480)
INSTANT_VIOLENCE = Node(
    "unsafe",
    "RespoDiffInstantConcept",
    {
        "groups": "violence: people fighting, violence, blood",
        "neutral": "people",
        "contexts": "\n".join(CONTRASTS["violence"]["contexts"]),
        "axis": "",
        "category": "safety",
    },
    "Instant Concept: violence",
    height=420,
)
SAFETY_COMPUTED = Node("safety", "RespoDiffSafety", {"adapter": "(none)"})

INSTANT_FAIRNESS = _fair(
    "Instant fairness (SD1.5)",
    _note(
        "You need no adapter: **RespoDiff Instant Concept** makes one from words, on your checkpoint. " + INSTANT_TIME,
        "**Fair Batch** gives every image of the batch one of the groups, in equal shares. For other groups change the "
        "lines of groups, and what axis is called.",
        "Keep the concept with **Save RespoDiff Adapter**.",
        files="checkpoint",
    ),
    Column(360, [Group("Model", "model", [_checkpoint()]), Group("Concept", "steer", [INSTANT_GENDER])]),
    "instant",
    [("checkpoint.0", "instant.model"), ("checkpoint.1", "instant.clip")],
    512,
    4,
)

INSTANT_SAFETY = Workflow(
    "Instant safety (SD1.5)",
    _note(
        "You need no adapter: **RespoDiff Instant Concept** makes one from words, on your checkpoint. " + INSTANT_TIME,
        "Describe what you do not want in groups, and its harmless counterpart in neutral.",
        "computed_strength of **RespoDiff Safety** is how far to steer away. Try many seeds.",
        files="checkpoint",
    ),
    [
        Column(360, [Group("Model", "model", [_checkpoint()]), Group("Concept", "steer", [INSTANT_VIOLENCE])]),
        Column(
            320,
            [
                Group("Safety", "steer", [SAFETY_COMPUTED]),
                _prompts("a photo of a protest in a city"),
            ],
        ),
        Column(320, [_images(), Group("Size", "prompt", [_latent(512, 2)])]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "unsafe.model"),
        ("checkpoint.1", "unsafe.clip"),
        ("unsafe.0", "safety.computed"),
        ("checkpoint.0", "safety.model"),
        ("safety.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "save.images"),
    ],
)

INSTANT_BOTH = Workflow(
    "Instant fairness + safety (SD1.5)",
    _note(
        "You need no adapter: each **RespoDiff Instant Concept** makes one from words, on your checkpoint. "
        + INSTANT_TIME,
        "Safety and Fair Batch can be in any order.",
        files="checkpoint",
    ),
    [
        Column(360, [Group("Model", "model", [_checkpoint()]), Group("Fairness", "steer", [INSTANT_GENDER])]),
        Column(360, [Group("Safety", "steer", [INSTANT_VIOLENCE, SAFETY_COMPUTED])]),
        Column(
            320,
            [
                Group(
                    "Fair shares",
                    "steer",
                    [
                        Node("group", "RespoDiffFairGroup", {"concept": "(all of them)"}),
                        Node("fair", "RespoDiffFairBatch", {"batch_size": 2}),
                    ],
                )
            ],
        ),
        Column(320, [_prompts("a photo of a soldier"), Group("Size and batch size", "prompt", [_latent(512, 2)])]),
        Column(320, [_images(SAVE_NAMED)]),
    ],
    [
        ("checkpoint.0", "instant.model"),
        ("checkpoint.1", "instant.clip"),
        ("checkpoint.0", "unsafe.model"),
        ("checkpoint.1", "unsafe.clip"),
        ("instant.0", "group.adapter"),
        ("unsafe.0", "safety.computed"),
        ("checkpoint.0", "safety.model"),
        ("safety.0", "fair.model"),
        ("group.0", "fair.groups.group0"),
        ("latent.0", "fair.latent"),
        ("fair.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "save.images"),
        ("fair.2", "save.names"),
    ],
)

FAIR_PROMPTS = Workflow(
    "Fair prompts (any model)",
    _note(
        "**RespoDiff Fair Prompts** names a group in the prompt of each image: 'a photo of a female doctor', 'a photo "
        "of a male doctor'. It changes no model: for Qwen-Image, Z-Image, Flux or Wan use the loaders and the latent "
        "of your model instead.",
        "One group per line, with a share after = ('female = 2'). A prompt that names a group itself is left alone.",
        files="checkpoint",
    ),
    [
        Column(
            320, [Group("Model", "model", [_checkpoint()]), Group("Size and batch size", "prompt", [_latent(512, 4)])]
        ),
        Column(
            340,
            [
                Group(
                    "Prompts",
                    "prompt",
                    [
                        Node("prompts", "RespoDiffFairPrompts", {"prompt": PROMPT, "seed": 0}, height=420),
                        Node("negative", "CLIPTextEncode", {"text": NEGATIVE}, "Negative prompt", 90),
                    ],
                )
            ],
        ),
        Column(320, [_images(SAVE_NAMED)]),
        Column(440, [Group("Result", "image", [GRID])]),
    ],
    [
        ("checkpoint.0", "sampler.model"),
        ("checkpoint.1", "prompts.clip"),
        ("checkpoint.1", "negative.clip"),
        ("latent.0", "prompts.latent"),
        ("latent.0", "sampler.latent_image"),
        ("prompts.0", "sampler.positive"),
        ("negative.0", "sampler.negative"),
        *_FROM_SAMPLER,
        ("decode.0", "save.images"),
        ("prompts.2", "save.names"),
        ("decode.0", "grid.images"),
        ("prompts.2", "grid.labels"),
    ],
)

TRAIN = Workflow(
    "Train a concept (SD1.5)",
    _note(
        "**RespoDiff Train Concept** trains on the loaded checkpoint, from prompts alone. It takes as long as some 600 "
        "images and needs a GPU; **RespoDiff Instant Concept** needs neither. Choose '(own words)' for your own "
        "concept.",
        "Interrupt it whenever you like: queue again to go on, also after a restart.",
        "The adapter is saved to models/respodiff, with the preview beside it. Press R, and it is in the lists.",
        files="checkpoint",
    ),
    [
        Column(
            320,
            [
                Group("Model", "model", [_checkpoint()]),
                Group("Size to train at", "prompt", [_latent()]),
            ],
        ),
        Column(
            360,
            [
                Group(
                    "Train",
                    "steer",
                    [
                        Node(
                            "train",
                            "RespoDiffTrainConcept",
                            {"concept": "gender/woman", "preview_prompt": PROMPT},
                            height=420,
                        )
                    ],
                )
            ],
        ),
        Column(
            360,
            [
                Group(
                    "Keep it",
                    "image",
                    [Node("keep", "RespoDiffSaveAdapter", {"name": "woman", "overwrite": True}, height=260)],
                )
            ],
        ),
        Column(
            440,
            [
                Group(
                    "Look",
                    "look",
                    [
                        Node("loss", "PreviewImage", title="Losses", height=300),
                        Node("shown", "PreviewImage", title="Strength 0, 0.5 and 1", height=260),
                    ],
                )
            ],
        ),
    ],
    [
        ("checkpoint.0", "train.model"),
        ("checkpoint.1", "train.clip"),
        ("checkpoint.2", "train.vae"),
        ("latent.0", "train.latent"),
        ("train.0", "keep.adapter"),
        ("train.2", "keep.preview"),
        ("train.1", "loss.images"),
        ("train.2", "shown.images"),
    ],
)

APP_CHECKPOINT = Node("checkpoint", "CheckpointLoaderSimple", {"ckpt_name": SD15}, labels={"ckpt_name": "checkpoint"})


def _group(key: str, concept: str) -> Node:
    return Node(key, "RespoDiffFairGroup", {"concept": concept}, key.capitalize(), labels={"share": f"share of {key}"})


FAIRNESS_APP = Workflow(
    "Instant fairness, app (SD1.5)",
    _note(
        "This workflow opens as an app: a page with the prompt, the shares and Run. The button in the page's corner "
        "switches between app and graph.",
        "It is the template *Instant fairness (SD1.5)*, with a **Fair Group** for each group. " + INSTANT_TIME,
        files="checkpoint",
    ),
    [
        Column(360, [Group("Model", "model", [APP_CHECKPOINT]), Group("Concept", "steer", [INSTANT_GENDER])]),
        Column(
            320,
            [
                Group(
                    "Fair shares",
                    "steer",
                    [
                        Node(
                            "women",
                            "RespoDiffFairGroup",
                            {"concept": "woman"},
                            "Women",
                            labels={"share": "share of women"},
                        ),
                        Node("men", "RespoDiffFairGroup", {"concept": "man"}, "Men", labels={"share": "share of men"}),
                        Node("fair", "RespoDiffFairBatch", {"batch_size": 4, "seed": 0}),
                    ],
                )
            ],
        ),
        Column(320, [_prompts(label="prompt"), Group("Size and batch size", "prompt", [_latent(512, 4)])]),
        Column(320, [_images()]),
        Column(440, [Group("Result", "image", [GRID, SAVE_GRID])]),
    ],
    [
        ("checkpoint.0", "instant.model"),
        ("checkpoint.1", "instant.clip"),
        ("instant.0", "women.adapter"),
        ("instant.0", "men.adapter"),
        ("women.0", "fair.groups.group0"),
        ("men.0", "fair.groups.group1"),
        ("checkpoint.0", "fair.model"),
        ("latent.0", "fair.latent"),
        ("fair.0", "sampler.model"),
        *_USUAL,
        ("decode.0", "grid.images"),
        ("fair.2", "grid.labels"),
        ("grid.0", "save.images"),
    ],
    # The checkpoint too, since nothing runs without one of the user's.
    app=App(["checkpoint.ckpt_name", "positive.text", "women.share", "men.share"], ["save"]),
)

INSTANT = (INSTANT_FAIRNESS, FAIRNESS_APP, INSTANT_SAFETY, INSTANT_BOTH)
MADE_HERE = (*INSTANT, FAIR_PROMPTS, TRAIN)
"""Those that need no adapter file."""
WORKFLOWS = (
    *MADE_HERE,
    STEER,
    MIX,
    GENDER_SD15,
    RACE_SDXL_WORKFLOW,
    CROSSED,
    SAFE,
    COMPANY,
    HIRES,
    SWEEP,
    REGION,
    GUARD,
)
