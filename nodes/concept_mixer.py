"""Concept Mixer: one slider for each concept of a file."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import ConceptHeader
from .concept_sliders import SliderNode, file_input
from .inputs import CATEGORY, model_input, model_output


class ConceptMixer(SliderNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffConceptMixer",
            display_name="RespoDiff Concept Mixer",
            category=CATEGORY,
            description=(
                "Loads an adapter and steers the model by all of its concepts, with one slider per concept. A concept "
                "at 0 has no effect; with all sliders at 0 the model is passed through unchanged."
            ),
            search_aliases=["respodiff", "fairness", "safety", "bias", "debias", "concept sliders", "mixer"],
            inputs=[model_input(), file_input(cls.wanted, 0.0)],
            outputs=[model_output()],
        )

    @staticmethod
    def wanted(concept: ConceptHeader) -> bool:
        return True
