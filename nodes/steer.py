"""Steer: one concept of an adapter onto a MODEL."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.steering.mask import Mask
from ..respodiff_core.steering.steering import Curve, Prompt, Steering, Term, Window
from .concept_choice import chosen, concept_input
from .host import attach
from .inputs import CATEGORY, adapter_input, model_input, model_output, strength_slider


class Steer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffSteer",
            display_name="RespoDiff Steer",
            category=CATEGORY,
            description=(
                "Steers the model towards one concept of an adapter (for a safety concept, away from it). Chain "
                "several in any order. At strength 0 the model is passed on unchanged."
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
                    "How strongly: 1 as the file recommends, 0 not at all, negative the other way (fairness only).",
                ),
                strength_slider("ram_strength", "Times strength: the module that brings the concept.", advanced=True),
                strength_slider(
                    "sam_strength", "Times strength: the module that keeps the rest of the picture.", advanced=True
                ),
                _percent("start_percent", 0.0, "Where in the sampling schedule steering starts (0 is pure noise)."),
                _percent(
                    "end_percent",
                    1.0,
                    "Where in the sampling schedule steering ends (1 is the finished image).",
                ),
                io.Combo.Input(
                    "prompt",
                    options=["positive", "negative", "both"],
                    default="positive",
                    advanced=True,
                    tooltip="Whose prediction is steered. The method steers the positive prompt's only.",
                ),
                io.Combo.Input(
                    "curve",
                    options=["constant", "fade in", "fade out"],
                    default="constant",
                    optional=True,
                    advanced=True,
                    tooltip="How the strength moves from start to end: not at all, from nothing, or to nothing.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where in the picture to steer. It may be soft; one for all images, or one for each.",
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def validate_inputs(cls, concept: str = "") -> bool:
        """Accept any name here: execute says which concepts the connected adapter holds."""
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
    ) -> io.NodeOutput:
        attach.check(adapter, model)
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
        )
        return io.NodeOutput(attach.attach(model, Steering((term,))))


def _percent(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip, advanced=True)
