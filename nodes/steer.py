"""Steer: steers a MODEL by one concept of an adapter."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.steering.mask import Mask
from ..respodiff_core.steering.steering import Curve, Prompt, Steering, Term, Window
from .concept_choice import chosen, concept_input
from .host import attach, unet
from .inputs import CATEGORY, adapter_input, gate_input, model_input, model_output, strength_slider


class Steer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffSteer",
            display_name="RespoDiff Steer",
            category=CATEGORY,
            description=(
                "Steers the model towards one concept of an adapter, or away from a safety concept. Several nodes can "
                "be chained in any order. At strength 0 the model is passed through unchanged."
            ),
            search_aliases=[
                "respodiff",
                "fairness",
                "safety",
                "bias",
                "debias",
                "concept slider",
                "steering",
            ],
            inputs=[
                model_input(),
                adapter_input(),
                concept_input(),
                strength_slider(
                    "strength",
                    "Steering strength. 1: recommended by the file. 0: no effect. Negative: reversed (not for safety).",
                ),
                strength_slider(
                    "ram_strength",
                    "Factor on strength for RAM, which brings in the concept.",
                    advanced=True,
                ),
                strength_slider(
                    "sam_strength",
                    "Factor on strength for SAM, which keeps the rest of the image (not Segment Anything).",
                    advanced=True,
                ),
                _percent("start_percent", 0.0, "Start of steering in the sampling schedule (0 is pure noise)."),
                _percent(
                    "end_percent",
                    1.0,
                    "End of steering in the sampling schedule (1 is the finished image).",
                ),
                io.Combo.Input(
                    "prompt",
                    options=["positive", "negative", "both"],
                    default="positive",
                    advanced=True,
                    tooltip=(
                        "Which prompt's prediction is steered: positive (default, as in the paper), negative or both. "
                        "Not a text."
                    ),
                ),
                io.Combo.Input(
                    "curve",
                    options=["constant", "fade in", "fade out"],
                    default="constant",
                    optional=True,
                    advanced=True,
                    tooltip="Strength between start and end: constant, rising from 0, or falling to 0.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Region of the image to steer; soft masks work. One mask for all images, or one per image.",
                ),
                gate_input(),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def validate_inputs(cls, concept: str = "") -> bool:
        """Accept any name here; execute raises an error that lists the concepts of the connected adapter."""
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: Adapter,
        concept: str,
        strength: float,
        ram_strength: float = 1.0,
        sam_strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        prompt: Prompt = "positive",
        curve: Curve = "constant",
        mask: torch.Tensor | None = None,
        gate: bool = False,
    ) -> io.NodeOutput:
        unet.check(adapter, model)
        steered = chosen(adapter, concept)
        if steered.name in adapter.muted:
            return io.NodeOutput(model)
        term = Term.of(
            steered,
            strength,
            ram_strength,
            sam_strength,
            window=Window(start_percent, end_percent, curve),
            prompt=prompt,
            mask=None if mask is None else Mask.of(mask),
            gated=gate,
        )
        return io.NodeOutput(attach.attach(model, Steering((term,))))


def _percent(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip, advanced=True)
