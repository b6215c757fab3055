"""Workflows that steer by adapter files."""

from __future__ import annotations

from workflow_drawing import Column, Group, Node, Workflow

from .parts import (
    CLIP,
    FROM_SAMPLER,
    GRID,
    NEGATIVE,
    PROMPT,
    SAVE,
    SAVE_GRID,
    SAVE_NAMED,
    SD15,
    TO_SAMPLER,
    USUAL,
    checkpoint,
    fair,
    images,
    latent,
    note,
    prompts,
    sampler,
)

SDXL = "sd_xl_base_1.0.safetensors"
CONTROLNET = "control_v11p_sd15_canny_fp16.safetensors"
LORA = "add_detail.safetensors"
# Titles of nodes that load an adapter; which file it is, everyone chooses.
GENDER, RACE, RACE_SDXL = "Gender adapter", "Race adapter", "Race adapter (SDXL)"
ONLY_GRID = "Only the grid is saved; add **Save RespoDiff Images** to keep each."
MIXER = Node("mixer", "RespoDiffConceptMixer", {"adapter": "(none)"}, height=260)
INSPECT = Node("inspect", "RespoDiffInspectAdapter", height=330)
SAFETY_NODE = Node("safety", "RespoDiffSafety", {"adapter": "(none)"}, height=200)


def adapter_file(title: str, key: str = "adapter") -> Node:
    return Node(key, "RespoDiffLoadAdapter", {"adapter": "(choose a file)"}, title)


STEER = Workflow(
    "Steer a concept (SD1.5)",
    note(
        "Choose one of its concepts in **RespoDiff Steer**. Strength 0 has no effect, 1 is the strength recommended by "
        "the file. The seed is fixed so that you can compare results.",
    ),
    [
        Column(320, [Group("Model and adapter", "model", [checkpoint(), adapter_file(GENDER)])]),
        Column(320, [Group("Steer", "steer", [Node("steer", "RespoDiffSteer", {"concept": "woman"})]), prompts()]),
        Column(320, [images(by=sampler()), Group("Size", "prompt", [latent()])]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "steer.model"),
        ("adapter.0", "steer.adapter"),
        ("steer.0", "sampler.model"),
        *USUAL,
        ("decode.0", "save.images"),
    ],
)

MIX = Workflow(
    "Mix concepts (SD1.5)",
    note(
        "The adapter is chosen twice: in **Concept Mixer** (loads the file itself) and in **Load RespoDiff Adapter** "
        "(only for Inspect, which shows the contents of the file).",
        "The mixer's sliders are at 0 and have no effect: move one and run. The seed is fixed for comparison.",
    ),
    [
        Column(
            300,
            [
                Group("Model and adapter", "model", [checkpoint(), adapter_file(GENDER)]),
                Group("Inspect", "look", [INSPECT, Node("text", "PreviewAny", height=240)]),
            ],
        ),
        Column(320, [Group("Steer", "steer", [MIXER]), prompts()]),
        Column(320, [images(by=sampler()), Group("Size", "prompt", [latent()])]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "mixer.model"),
        ("mixer.0", "sampler.model"),
        ("adapter.0", "inspect.adapter"),
        ("inspect.0", "text.source"),
        *USUAL,
        ("decode.0", "save.images"),
    ],
)


def files_for(model: str, title: str) -> Column:
    return Column(320, [Group("Model and adapter", "model", [checkpoint(model), adapter_file(title)])])


GENDER_SD15 = fair(
    "Fair Batch, gender (SD1.5)",
    note(
        "Every image of the batch is assigned a group, with equal shares, in one sampler call.",
        "**Fair Group** turns every concept except safety concepts into a group. For other shares use one node per "
        "concept.",
        "The group is saved in the file name and the metadata. Fair Batch's own seed (not KSampler's) is set to "
        "increment, so the shares are also met over several runs.",
    ),
    files_for(SD15, GENDER),
    "adapter",
    [],
    512,
    4,
)

RACE_SDXL_WORKFLOW = fair(
    "Fair Batch, race (SDXL)",
    note(
        "Every image of the batch is assigned a group, here race, as in the template *Fair Batch, gender (SD1.5)*.",
        "Out of memory? Set batch_size in **Empty Latent Image** to 1 (Fair Batch's is ignored here) and KSampler's "
        "seed to randomize. Any three runs in a row give each of three groups one image.",
        files="SDXL checkpoint and an adapter trained on SDXL",
    ),
    files_for(SDXL, RACE_SDXL),
    "adapter",
    [],
    1024,
    3,
)

BOTH_ADAPTERS = (adapter_file(GENDER, "gender"), adapter_file(RACE, "race"))

CROSSED = Workflow(
    "Fair Batch, gender x race (SD1.5)",
    note(
        "Six images, one for each pair of groups. " + ONLY_GRID,
        "Two concepts weaken each other, so you can scale both axes (sets of groups): first_scale (gender) is 1.1, "
        "second_scale (race) 0.9.",
        files="checkpoint and two adapters",
    ),
    [
        Column(
            320,
            [
                Group("Model and adapters", "model", [checkpoint(), *BOTH_ADAPTERS]),
                Group("Size and batch size", "prompt", [latent(512, 6)]),
            ],
        ),
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
                ),
                Group("Fair shares", "steer", [Node("fair", "RespoDiffFairBatch", {"batch_size": 6})]),
            ],
        ),
        Column(320, [prompts(), images()]),
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
        *USUAL,
        ("decode.0", "grid.images"),
        ("fair.2", "grid.labels"),
        ("grid.0", "save.images"),
    ],
)

SAFE = Workflow(
    "Safety (SD1.5)",
    note(
        "**RespoDiff Safety** steers away from each safety concept of its file. 1 is the recommended strength. Try "
        "many seeds.",
    ),
    [
        Column(320, [Group("Model", "model", [checkpoint()]), Group("Safety", "steer", [SAFETY_NODE])]),
        Column(320, [prompts("a photo of a protest in a city"), Group("Size", "prompt", [latent(512, 2)])]),
        Column(320, [images()]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [("checkpoint.0", "safety.model"), ("safety.0", "sampler.model"), *USUAL, ("decode.0", "save.images")],
)

COMPANY = Workflow(
    "Fairness + safety + LoRA + ControlNet (SD1.5)",
    note(
        "The order of LoRA, Safety and Fair Batch in the MODEL chain does not matter. The edges of the input image "
        "guide the composition.",
        "Fairness and safety disturb each other: check the images, and lower a strength if details get lost.",
        files="checkpoint, LoRA, ControlNet and two adapters",
    ),
    [
        Column(
            300,
            [
                Group(
                    "Model and adapter",
                    "model",
                    [
                        checkpoint(),
                        Node("lora", "LoraLoader", {"lora_name": LORA, "strength_model": 0.7, "strength_clip": 0.7}),
                        adapter_file(GENDER),
                    ],
                )
            ],
        ),
        Column(
            300,
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
        Column(300, [prompts(), Group("Size and batch size", "prompt", [latent(512, 2)])]),
        Column(
            300,
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
        Column(300, [images(SAVE_NAMED)]),
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
        *FROM_SAMPLER,
        ("decode.0", "save.images"),
        ("fair.2", "save.names"),
    ],
)

HIRES = Workflow(
    "Hires fix (SD1.5)",
    note(
        "Both passes use the same steered MODEL: an adapter works at any image size.",
        "One strength normally suits both passes. If the second pass overdoes it, give it its own Steer node with a "
        "lower strength.",
    ),
    [
        Column(
            320,
            [
                Group("Model and adapter", "model", [checkpoint(), adapter_file(GENDER)]),
                Group("Steer", "steer", [Node("steer", "RespoDiffSteer", {"concept": "woman"})]),
            ],
        ),
        Column(320, [prompts(), Group("First pass", "image", [latent(), sampler()])]),
        Column(
            320,
            [
                Group(
                    "Second pass",
                    "image",
                    [
                        Node("larger", "LatentUpscaleBy", {"upscale_method": "bicubic", "scale_by": 1.5}),
                        sampler("again", denoise=0.5, steps=14),
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
        *CLIP,
        *TO_SAMPLER,
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
    note(
        "Twelve images from the same noise in one batch: the first concept's strength changes along each row, the "
        "second concept's from row to row. To sweep only one concept, disconnect adapter_y.",
        "Only the grid is saved; add **Save Image** after VAE Decode for each.",
    ),
    [
        Column(
            320,
            [
                Group("Model and adapter", "model", [checkpoint(), adapter_file(GENDER)]),
                Group("Size", "prompt", [latent()]),
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
                prompts(),
            ],
        ),
        Column(320, [images()]),
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
        *FROM_SAMPLER,
        *CLIP,
        ("decode.0", "grid.images"),
        ("sweep.2", "grid.sweep"),
        ("grid.0", "save.images"),
    ],
)

REGION = Workflow(
    "Regional mask and timing (SD1.5)",
    note(
        "One concept on the left and another on the right, with a mask and its inverse. If you change the image size, "
        "change both masks. For a soft edge put **Feather Mask** (*right*) after *Left half*.",
        "**start_percent**, **end_percent** and **curve** (advanced inputs of the Steer nodes) set when and how "
        "strongly a concept acts. The right one fades out: the model determines the fine details. "
        "Outside a mask the image can still change slightly.",
    ),
    [
        Column(
            320,
            [
                Group("Model and adapter", "model", [checkpoint(), adapter_file(GENDER)]),
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
                ),
                Group("Size", "prompt", [latent()]),
            ],
        ),
        Column(320, [prompts("a photo of two doctors"), images()]),
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
        *USUAL,
        ("decode.0", "save.images"),
    ],
)

GUARD = Workflow(
    "Prompt guard (SD1.5)",
    note(
        "Edit the text in **Prompt**: it goes to CLIP and to **Prompt Guard**, which keeps steering from overriding "
        "it.",
        "With 'a photo of a doctor', half of the images get 'woman', half 'man'. With 'a photo of a male doctor' "
        "gender is muted (not steered), and the report says why.",
        "In other languages than English no group is steered. " + ONLY_GRID,
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
                Group("Model and adapter", "model", [checkpoint(), adapter_file(GENDER)]),
                Group("Size and batch size", "prompt", [latent(512, 4)]),
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
                images(),
            ],
        ),
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
        *USUAL,
        ("decode.0", "grid.images"),
        ("fair.2", "grid.labels"),
        ("grid.0", "save.images"),
    ],
)
