"""The workflow that comes with ToyWorld's own node pack, to try the nodes without a checkpoint."""

from __future__ import annotations

from respodiff.respodiff_core.learning.contrast_presets import CONTRASTS
from workflow_drawing import Column, Group, Node

from .parts import LIMITS, fair, images, prompts, sampler

_SHAPES = CONTRASTS["toyworld/shape"]

WITHOUT_CHECKPOINT = fair(
    "Instant fairness without a checkpoint (ToyWorld)",
    "\n\n".join(
        (
            "Press Run. **ToyWorld** is a tiny test model that takes a checkpoint's place here. Nearly all its doctors "
            "have round heads, as a real model's are of one gender.",
            "**RespoDiff Instant Concept** makes a concept from the words *round* and *square* in some seconds, and "
            "**Fair Batch** gives every image of the batch one of them, in equal shares. Set strength in **Fair "
            "Group** to 0 and run again: the same images without it. At 1.5 heads are distorted: the smallest strength "
            "that suffices is the best.",
            "With your own checkpoint: template *Instant fairness (SD1.5)*.",
            LIMITS,
        )
    ),
    Column(
        360,
        [
            Group("Model", "model", [Node("checkpoint", "ToyWorld")]),
            Group(
                "Concept",
                "steer",
                [
                    Node(
                        "instant",
                        "RespoDiffInstantConcept",
                        {
                            "groups": "\n".join(f"{name}: {text}" for name, text in _SHAPES["groups"].items()),
                            "neutral": _SHAPES["neutral"],
                            "contexts": "\n".join(_SHAPES["contexts"]),
                            "axis": _SHAPES["axis"],
                        },
                        height=480,
                    )
                ],
            ),
        ],
    ),
    "instant",
    [
        ("checkpoint.0", "instant.model"),
        ("checkpoint.1", "instant.clip"),
        ("latent.0", "instant.latent"),
        ("decode.0", "larger.image"),
    ],
    128,
    6,
    strength=0.75,  # enough for doctors, whose heads are distorted by more
    inputs=prompts(negative=""),
    made=images(
        Node("larger", "ImageScaleBy", {"upscale_method": "bicubic", "scale_by": 4.0}),
        by=sampler(
            seed=17, steps=50, cfg=7.5, sampler_name="ddim", scheduler="ddim_uniform"
        ),  # as docs/results.md measures
    ),
    shown="larger.0",
    saved=False,
)
