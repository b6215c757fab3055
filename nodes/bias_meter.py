"""Bias Meter: classifies the images of a batch with CLIP and counts the classes, optionally over several runs."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..respodiff_core.measuring.image_classes import check_images, nearest, parse_classes, requested_classes
from ..respodiff_core.measuring.tally import Tally
from ..respodiff_core.measuring.tally_memory import TallyMemory
from .host import clip_folders, comfyui_clip
from .inputs import CATEGORY
from .pictures.tally_picture import draw

CONNECTED = "(use clip_vision and clip)"
NOTHING_REQUESTED = -1.0

_memory = TallyMemory()


class BiasMeter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffBiasMeter",
            display_name="RespoDiff Bias Meter",
            category=CATEGORY,
            description=(
                "Classifies each image with CLIP and counts the classes: how evenly they are represented (deviation "
                "ratio) and how often an image shows the group that Fair Batch requested (steering accuracy). For "
                "generated images only: CLIP judges appearance, makes mistakes, and cannot tell who a person is."
            ),
            search_aliases=[
                "respodiff",
                "fairness",
                "bias",
                "measure",
                "count",
                "classifier",
                "clip",
                "deviation ratio",
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input("images", tooltip="The generated images of one batch."),
                io.String.Input(
                    "classes",
                    default="woman = a photo of a woman\nman = a photo of a man",
                    multiline=True,
                    tooltip="One class per line: its name in Fair Batch, '=', and the text for CLIP to compare with.",
                ),
                io.Combo.Input(
                    "clip_folder",
                    options=[CONNECTED, *clip_folders.names()],
                    tooltip="CLIP model in transformers format: folder in models/clip_vision or models/text_encoders.",
                ),
                io.Boolean.Input(
                    "accumulate",
                    default=False,
                    tooltip=(
                        "Add up counts over runs, each batch once. The node then runs each time you click Run. Reset "
                        "when ComfyUI exits."
                    ),
                ),
                io.Int.Input(
                    "series",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    tooltip="A new number starts counting from zero. Setting an earlier number restores its counts.",
                ),
                io.String.Input(
                    "names",
                    optional=True,
                    force_input=True,
                    tooltip="TEXT from Fair Batch: the group requested for each image. Other names count as unsteered.",
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="From Load CLIP Vision. Ignored if clip_folder is set."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Text encoder of the same CLIP, from Load CLIP. That of an SD1.5 checkpoint does not work.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="Bar chart of the shares."),
                io.Float.Output(
                    "DEVIATION_RATIO", tooltip="0: all classes have the same share. 1: all images are in one class."
                ),
                io.Float.Output(
                    "STEERING_ACCURACY",
                    tooltip=(
                        "Share of images that show the class requested for them, calculated per class; the lowest "
                        "value is shown. -1: none requested."
                    ),
                ),
                io.String.Output("TEXT", tooltip="All figures as text."),
                io.String.Output(
                    "SEEN", tooltip="The class of each image in this batch, one per line. For the labels input of Grid."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, clip_folder: str = "") -> bool:
        """Accept any folder here; execute raises a clearer error than ComfyUI's 'value not in list'."""
        return True

    @classmethod
    def fingerprint_inputs(cls, clip_folder: str, accumulate: bool | None = None, **_: Any) -> str:
        """A new value on every queue while accumulating, or while a connected `accumulate` has no value yet."""
        return clip_folders.fingerprint(clip_folder) if accumulate is False else str(time.time_ns())

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        classes: str,
        clip_folder: str,
        accumulate: bool,
        series: int,
        names: str | None = None,
        clip_vision: Any = None,
        clip: Any = None,
    ) -> io.NodeOutput:
        parsed = parse_classes(classes)
        check_images(images)
        requested = requested_classes(names, len(images), parsed)
        texts = [one.text for one in parsed]
        if clip_folder == CONNECTED:
            embedded = comfyui_clip.embed(clip_vision, clip, images, texts)
        else:
            embedded = clip_folders.embed(clip_folder, images, texts)
        seen = nearest(embedded.images, embedded.texts)
        tally = Tally.empty([one.name for one in parsed]).add(seen, requested.numbers)
        notes = [f"Classified by {embedded.clip}."]
        if requested.unknown:
            notes.append(f"Not in classes: {', '.join(requested.unknown)}. These images count as unsteered.")
        if accumulate:
            key = (cls._workflow(), cls.hidden.unique_id, series, embedded.clip, parsed)
            tally, new = _memory.add(key, _digest(images), tally)
            if not new:
                notes.append("This batch was already counted; it counts only once.")
        text = "\n".join([tally.summary(), *notes])
        chart = draw(tally)
        worst = tally.worst[1] if tally.worst else NOTHING_REQUESTED
        shown = ui.PreviewImage(chart, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        labels = "\n".join(parsed[number].name for number in seen)
        return io.NodeOutput(chart, tally.deviation_ratio, worst, text, labels, ui=shown)

    @classmethod
    def _workflow(cls) -> str | None:
        """The id of the workflow: two open workflows may have a node with the same id."""
        return (cls.hidden.extra_pnginfo or {}).get("workflow", {}).get("id")


def _digest(images: torch.Tensor) -> str:
    return hashlib.blake2b(images.float().cpu().contiguous().numpy().data, digest_size=16).hexdigest()
