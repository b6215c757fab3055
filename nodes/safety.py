"""Safety: steers away from all safety concepts of a file, with one slider per concept."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import ConceptHeader
from .concept_sliders import SliderNode, file_input
from .inputs import CATEGORY, model_input, model_output


class Safety(SliderNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffSafety",
            display_name="RespoDiff Safety",
            category=CATEGORY,
            description=(
                "Steers the model away from all safety concepts of an adapter, with one slider per concept. Can be "
                "combined with Fair Batch and Steer in any order. It makes unsafe content rarer; it is not a filter."
            ),
            search_aliases=["respodiff", "safety", "nsfw", "violence", "safe", "harm"],
            inputs=[model_input(), file_input(cls.wanted, 1.0)],
            outputs=[model_output()],
        )

    @staticmethod
    def wanted(concept: ConceptHeader) -> bool:
        return concept.info.category == "safety"
