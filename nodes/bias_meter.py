"""Bias Meter: what a CLIP takes the pictures of a batch for, counted, over runs if asked to."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..respodiff_core.measuring.image_classes import asked_for, check_pictures, nearest, parse_classes
from ..respodiff_core.measuring.tally import Tally
from ..respodiff_core.measuring.tally_memory import TallyMemory
from .host import clip_folders, comfyui_clip
from .inputs import CATEGORY
from .pictures.tally_picture import draw

CONNECTED = "(use clip_vision and clip)"
NOTHING_ASKED = -1.0

_memory = TallyMemory()


class BiasMeter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffBiasMeter",
            display_name="RespoDiff Bias Meter",
            category=CATEGORY,
            description=(
                "Counts which class a CLIP takes each picture for: how even the classes are (deviation ratio), and how "
                "often pictures show what Fair Batch asked for (steering accuracy). For generated pictures only; it "
                "knows looks, errs, and says nothing of who people are."
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
                io.Image.Input("images", tooltip="The generated pictures of one batch."),
                io.String.Input(
                    "classes",
                    default="woman = a photo of a woman\nman = a photo of a man",
                    multiline=True,
                    tooltip="One class a line: its name as in Fair Batch, '=', and the text that CLIP compares with.",
                ),
                io.Combo.Input(
                    "clip_folder",
                    options=[CONNECTED, *clip_folders.names()],
                    tooltip="A CLIP in transformers' form, a folder below models/clip_vision or models/text_encoders.",
                ),
                io.Boolean.Input(
                    "accumulate",
                    default=False,
                    tooltip="Add up over runs, each batch once. Runs at every queue; forgotten when ComfyUI ends.",
                ),
                io.Int.Input(
                    "series",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    tooltip="Reset: another number starts from zero. The former one keeps its counts, to go back to.",
                ),
                io.String.Input(
                    "names",
                    optional=True,
                    force_input=True,
                    tooltip="Fair Batch's TEXT: what each picture was asked to show. Not a class: counts as unsteered.",
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="From Load CLIP Vision. Passed over if a folder is chosen."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The same CLIP's text half, from Load CLIP: a whole CLIP, not that of an SD1.5 checkpoint.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The bar chart."),
                io.Float.Output("DEVIATION_RATIO", tooltip="0: every class the same share. 1: all of one class."),
                io.Float.Output(
                    "STEERING_ACCURACY",
                    tooltip="Of pictures asked for a class, the share that shows it; the worst class. -1: none asked.",
                ),
                io.String.Output("TEXT", tooltip="All figures, to read."),
                io.String.Output("SEEN", tooltip="The class of each picture of this batch, a line each: for Grid."),
            ],
        )

    @classmethod
    def validate_inputs(cls, clip_folder: str = "") -> bool:
        """Accept any folder here: execute explains better than 'value not in list' what is wrong with it."""
        return True

    @classmethod
    def fingerprint_inputs(cls, clip_folder: str, accumulate: bool | None = None, **_: Any) -> str:
        """Another one each time while accumulating; an accumulate that is wired is not known yet."""
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
        told_apart = parse_classes(classes)
        check_pictures(images)
        asked = asked_for(names, len(images), told_apart)
        texts = [one.text for one in told_apart]
        if clip_folder == CONNECTED:
            embedded = comfyui_clip.embed(clip_vision, clip, images, texts)
        else:
            embedded = clip_folders.embed(clip_folder, images, texts)
        seen = nearest(embedded.pictures, embedded.texts)
        tally = Tally.empty([one.name for one in told_apart]).add(seen, asked.numbers)
        notes = [f"Told apart by {embedded.clip}."]
        if asked.unknown:
            notes.append(f"No class is called {', '.join(asked.unknown)}: counted as asked for none.")
        if accumulate:
            key = (cls._workflow(), cls.hidden.unique_id, series, embedded.clip, told_apart)
            tally, new = _memory.add(key, _digest(images), tally)
            if not new:
                notes.append("These pictures were counted before, and are counted once.")
        text = "\n".join([tally.summary(), *notes])
        chart = draw(tally)
        worst = tally.worst[1] if tally.worst else NOTHING_ASKED
        shown = ui.PreviewImage(chart, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        labels = "\n".join(told_apart[number].name for number in seen)
        return io.NodeOutput(chart, tally.deviation_ratio, worst, text, labels, ui=shown)

    @classmethod
    def _workflow(cls) -> str | None:
        """Which of the page's workflows this is: two of them may have a node of the same id."""
        return (cls.hidden.extra_pnginfo or {}).get("workflow", {}).get("id")


def _digest(images: torch.Tensor) -> str:
    return hashlib.blake2b(images.float().cpu().contiguous().numpy().data, digest_size=16).hexdigest()
