"""Strength Sweep: image i of the batch at strength i, along one concept or across two."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.steering.sweep import Axis, Sweep, parse_strengths
from .concept_choice import chosen, concept_input
from .host import attach
from .inputs import CATEGORY, SweepType, adapter_input, model_input, model_output

_FORMAT = "A list, '-1, 0, 1', or a range with both its ends, '0 to 2 in 5'."


class StrengthSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffStrengthSweep",
            display_name="RespoDiff Strength Sweep",
            category=CATEGORY,
            description=(
                "Samples one batch whose images differ in a concept's strength alone. With a second adapter connected "
                "two concepts span a grid. Sample the LATENT with the MODEL, then lay the pictures out with Grid."
            ),
            search_aliases=["respodiff", "xy plot", "strength", "sweep", "compare", "grid"],
            inputs=[
                model_input(),
                adapter_input(),
                concept_input(),
                io.String.Input("strengths", default="0, 0.5, 1, 1.5", tooltip=f"Along a row. {_FORMAT}"),
                io.Latent.Input("latent", tooltip="One latent; of a batch the first is taken."),
                io.Boolean.Input(
                    "same_noise",
                    default=True,
                    tooltip="Every image starts from the noise of the seed; off, each from its own.",
                ),
                adapter_input("adapter_y", "Of a second concept, for a grid; the same adapter will do.", optional=True),
                concept_input("concept_y", tooltip="The second concept; used where adapter_y is connected."),
                io.String.Input("strengths_y", default="0, 0.5, 1", tooltip=f"From row to row. {_FORMAT}"),
            ],
            outputs=[
                model_output(),
                io.Latent.Output(tooltip="A batch with one latent for each strength."),
                SweepType.Output("SWEEP", tooltip="For Grid: what is where."),
            ],
        )

    @classmethod
    def validate_inputs(cls, concept: str = "", concept_y: str = "") -> bool:
        """Accept any name here: execute says which concepts the connected adapter holds."""
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
        attach.check(adapter, model)
        y = None
        if adapter_y is not None:
            attach.check(adapter_y, model)
            y = Axis(chosen(adapter_y, concept_y), parse_strengths(strengths_y))
        sweep = Sweep(Axis(chosen(adapter, concept), parse_strengths(strengths)), y)
        repeated = _repeated(latent, sweep.images, same_noise)
        return io.NodeOutput(attach.attach(model, sweep.plan()), repeated, sweep)


def _repeated(latent: dict[str, Any], images: int, same_noise: bool) -> dict[str, Any]:
    """The first latent, so many times. ComfyUI draws the noise of an image by its `batch_index`."""
    repeated = {**latent, "samples": _first(latent["samples"]).repeat(images, *(1,) * (latent["samples"].ndim - 1))}
    if "noise_mask" in latent:
        repeated["noise_mask"] = _first(latent["noise_mask"])
    first = int(latent.get("batch_index", [0])[0])
    repeated["batch_index"] = [first] * images if same_noise else list(range(first, first + images))
    return repeated


def _first(batch: torch.Tensor) -> torch.Tensor:
    return batch[:1]
