"""Strength Sweep: a batch in which each image has a different strength of one or two concepts."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.steering.sweep import Axis, Sweep, parse_strengths
from .concept_choice import chosen, concept_input
from .host import attach, unet
from .inputs import CATEGORY, SweepType, adapter_input, model_input, model_output

_FORMAT = "A list ('-1, 0, 1') or a range ('0 to 2 in 5': five values, both ends included)."


class StrengthSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffStrengthSweep",
            display_name="RespoDiff Strength Sweep",
            category=CATEGORY,
            description=(
                "Prepares a batch in which the images differ only in the strength of one concept, or of two concepts "
                "if adapter_y is connected. Sample LATENT with MODEL, then arrange the images with Grid."
            ),
            search_aliases=["respodiff", "xy plot", "strength", "sweep", "compare", "grid"],
            inputs=[
                model_input(),
                adapter_input(),
                concept_input(),
                io.String.Input("strengths", default="0, 0.5, 1, 1.5", tooltip=f"Strengths along a row. {_FORMAT}"),
                io.Latent.Input("latent", tooltip="The latent to repeat. Only the first of a batch is used."),
                io.Boolean.Input(
                    "same_noise",
                    default=True,
                    tooltip="On: all images start from the same noise. Off: each image starts from different noise.",
                ),
                adapter_input("adapter_y", "Adapter of the second concept; may be the same adapter.", optional=True),
                concept_input("concept_y", tooltip="The second concept. Used only if adapter_y is connected."),
                io.String.Input("strengths_y", default="0, 0.5, 1", tooltip=f"Strengths from row to row. {_FORMAT}"),
            ],
            outputs=[
                model_output(),
                io.Latent.Output(tooltip="A batch with one latent per image of the sweep."),
                SweepType.Output("SWEEP", tooltip="The concepts and strengths of the sweep, for Grid."),
            ],
        )

    @classmethod
    def validate_inputs(cls, concept: str = "", concept_y: str = "") -> bool:
        """Accept any name here; execute raises an error that lists the concepts of the connected adapter."""
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: Adapter,
        concept: str,
        strengths: str,
        latent: dict[str, Any],
        same_noise: bool,
        concept_y: str,
        strengths_y: str,
        adapter_y: Adapter | None = None,
    ) -> io.NodeOutput:
        unet.check(adapter, model)
        y = None
        if adapter_y is not None:
            unet.check(adapter_y, model)
            y = Axis(chosen(adapter_y, concept_y), parse_strengths(strengths_y))
        sweep = Sweep(Axis(chosen(adapter, concept), parse_strengths(strengths)), y)
        repeated = _repeated(latent, sweep.images, same_noise)
        return io.NodeOutput(attach.attach(model, sweep.plan()), repeated, sweep)


def _repeated(latent: dict[str, Any], images: int, same_noise: bool) -> dict[str, Any]:
    """The first latent, repeated `images` times. ComfyUI generates the noise of an image from its `batch_index`."""
    repeated = {**latent, "samples": _first(latent["samples"]).repeat(images, *(1,) * (latent["samples"].ndim - 1))}
    if "noise_mask" in latent:
        repeated["noise_mask"] = _first(latent["noise_mask"])
    first = int(latent.get("batch_index", [0])[0])
    repeated["batch_index"] = [first] * images if same_noise else list(range(first, first + images))
    return repeated


def _first(batch: torch.Tensor) -> torch.Tensor:
    return batch[:1]
