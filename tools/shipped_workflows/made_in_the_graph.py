"""Workflows that need no adapter file: concepts made in the graph, or named in the prompts."""

from __future__ import annotations

from respodiff.respodiff_core.learning.contrast_presets import CONTRASTS
from workflow_drawing import App, Column, Group, Node, Workflow

from .parts import (
    FROM_SAMPLER,
    GRID,
    NEGATIVE,
    PROMPT,
    SAVE,
    SAVE_GRID,
    SAVE_NAMED,
    SD15,
    USUAL,
    checkpoint,
    fair,
    images,
    latent,
    note,
    prompts,
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

INSTANT_FAIRNESS = fair(
    "Instant fairness (SD1.5)",
    note(
        "You need no adapter: **RespoDiff Instant Concept** makes one from words, on your checkpoint. " + INSTANT_TIME,
        "**Fair Batch** gives every image of the batch one of the groups, in equal shares. For other groups change the "
        "lines of groups, and what axis is called.",
        "Keep the concept with **Save RespoDiff Adapter**.",
        files="checkpoint",
    ),
    Column(360, [Group("Model", "model", [checkpoint()]), Group("Concept", "steer", [INSTANT_GENDER])]),
    "instant",
    [("checkpoint.0", "instant.model"), ("checkpoint.1", "instant.clip")],
    512,
    4,
)
APP_CHECKPOINT = Node("checkpoint", "CheckpointLoaderSimple", {"ckpt_name": SD15}, labels={"ckpt_name": "checkpoint"})

FAIRNESS_APP = Workflow(
    "Instant fairness, app (SD1.5)",
    note(
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
                ),
                Group("Size and batch size", "prompt", [latent(512, 4)]),
            ],
        ),
        Column(320, [prompts(label="prompt"), images()]),
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
        *USUAL,
        ("decode.0", "grid.images"),
        ("fair.2", "grid.labels"),
        ("grid.0", "save.images"),
    ],
    # The checkpoint too, since nothing runs without one of the user's.
    app=App(["checkpoint.ckpt_name", "positive.text", "women.share", "men.share"], ["save"]),
)

INSTANT_SAFETY = Workflow(
    "Instant safety (SD1.5)",
    note(
        "You need no adapter: **RespoDiff Instant Concept** makes one from words, on your checkpoint. " + INSTANT_TIME,
        "Describe what you do not want in groups, and its harmless counterpart in neutral.",
        "computed_strength of **RespoDiff Safety** is how far to steer away. Try many seeds.",
        files="checkpoint",
    ),
    [
        Column(360, [Group("Model", "model", [checkpoint()]), Group("Concept", "steer", [INSTANT_VIOLENCE])]),
        Column(
            320,
            [
                Group("Safety", "steer", [SAFETY_COMPUTED]),
                prompts("a photo of a protest in a city"),
            ],
        ),
        Column(320, [images(), Group("Size", "prompt", [latent(512, 2)])]),
        Column(420, [Group("Result", "image", [SAVE])]),
    ],
    [
        ("checkpoint.0", "unsafe.model"),
        ("checkpoint.1", "unsafe.clip"),
        ("unsafe.0", "safety.computed"),
        ("checkpoint.0", "safety.model"),
        ("safety.0", "sampler.model"),
        *USUAL,
        ("decode.0", "save.images"),
    ],
)

INSTANT_BOTH = Workflow(
    "Instant fairness + safety (SD1.5)",
    note(
        "You need no adapter: each **RespoDiff Instant Concept** makes one from words, on your checkpoint. "
        + INSTANT_TIME,
        "Safety and Fair Batch can be in any order.",
        files="checkpoint",
    ),
    [
        Column(360, [Group("Model", "model", [checkpoint()]), Group("Fairness", "steer", [INSTANT_GENDER])]),
        Column(
            360,
            [
                Group("Safety", "steer", [INSTANT_VIOLENCE, SAFETY_COMPUTED]),
                Group("Size and batch size", "prompt", [latent(512, 2)]),
            ],
        ),
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
                ),
                prompts("a photo of a soldier"),
            ],
        ),
        Column(320, [images(SAVE_NAMED)]),
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
        *USUAL,
        ("decode.0", "save.images"),
        ("fair.2", "save.names"),
    ],
)

FAIR_PROMPTS = Workflow(
    "Fair prompts (any model)",
    note(
        "**RespoDiff Fair Prompts** names a group in the prompt of each image: 'a photo of a female doctor', 'a photo "
        "of a male doctor'. It changes no model: for Qwen-Image, Z-Image, Flux or Wan use the loaders and the latent "
        "of your model instead.",
        "One group per line, with a share after = ('female = 2'). A prompt that names a group itself is left alone.",
        files="checkpoint",
    ),
    [
        Column(
            320, [Group("Model", "model", [checkpoint()]), Group("Size and batch size", "prompt", [latent(512, 4)])]
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
        Column(320, [images(SAVE_NAMED)]),
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
        *FROM_SAMPLER,
        ("decode.0", "save.images"),
        ("prompts.2", "save.names"),
        ("decode.0", "grid.images"),
        ("prompts.2", "grid.labels"),
    ],
)

TRAIN = Workflow(
    "Train a concept (SD1.5)",
    note(
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
                Group("Model", "model", [checkpoint()]),
                Group("Size to train at", "prompt", [latent()]),
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
