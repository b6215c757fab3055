"""Concept Mixer: choose a file, get one slider per concept."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter import ConceptHeader
from . import concept_sliders
from .inputs import CATEGORY, model_input, model_output


def _every(concept: ConceptHeader) -> bool:
    return True


class ConceptMixer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffConceptMixer",
            display_name="RespoDiff Concept Mixer",
            category=CATEGORY,
            description=(
                "Loads an adapter and steers the model by all of its concepts, one slider each. At 0 a concept does "
                "nothing, and with all at 0 the model is passed on unchanged."
            ),
            search_aliases=["respodiff", "fairness", "safety", "bias", "debias", "concept sliders", "mixer"],
            inputs=[model_input(), concept_sliders.file_input(_every, lambda concept: 0.0)],
            outputs=[model_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: dict[str, Any] | None = None, **_: Any) -> str:
        return concept_sliders.fingerprint(adapter)

    @classmethod
    def execute(cls, model: Any, adapter: dict[str, Any] | None = None) -> io.NodeOutput:
        return io.NodeOutput(concept_sliders.steered(model, adapter, _every))
