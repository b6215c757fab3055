"""Safety: the safety concepts of a file, summed, one slider each."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter import ConceptHeader
from . import concept_sliders
from .inputs import CATEGORY, model_input, model_output


def _safety(concept: ConceptHeader) -> bool:
    return concept.info.category == "safety"


def _recommended(concept: ConceptHeader) -> float:
    return min(max(round(concept.info.strength / 0.05) * 0.05, 0.0), 2.0)


class Safety(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffSafety",
            display_name="RespoDiff Safety",
            category=CATEGORY,
            description=(
                "Steers the model away from all safety concepts of an adapter together, one slider each. Combines with "
                "Fair Batch and Steer in any order. It lowers how often unsafe content appears; it is not a filter."
            ),
            search_aliases=["respodiff", "safety", "nsfw", "violence", "safe", "harm"],
            inputs=[model_input(), concept_sliders.file_input(_safety, _recommended)],
            outputs=[model_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: dict[str, Any] | None = None, **_: Any) -> str:
        return concept_sliders.fingerprint(adapter)

    @classmethod
    def execute(cls, model: Any, adapter: dict[str, Any] | None = None) -> io.NodeOutput:
        return io.NodeOutput(concept_sliders.steered(model, adapter, _safety))
