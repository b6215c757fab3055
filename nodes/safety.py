"""Safety: steers away from all safety concepts of a file, with one slider per concept."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter, ConceptHeader
from ..respodiff_core.errors import UnknownConceptError
from ..respodiff_core.steering.steering import Steering, Term
from .concept_sliders import SliderNode, check_chosen, file_input, steered
from .host import attach, unet
from .inputs import CATEGORY, adapter_input, model_input, model_output, strength_slider


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
            inputs=[
                model_input(),
                file_input(cls.wanted, 1.0),
                adapter_input(
                    "computed",
                    "From RespoDiff Instant Concept or another node: its safety concepts are used as well.",
                    optional=True,
                ),
                strength_slider(
                    "computed_strength",
                    "Strength of all safety concepts of the connected adapter. 1: recommended. 0: no effect.",
                    least=0.0,
                    optional=True,
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: dict[str, Any] | None = None,
        computed: Adapter | None = None,
        computed_strength: float = 1.0,
    ) -> io.NodeOutput:
        check_chosen(adapter, computed)
        if computed is not None:
            model = _steered_by(model, computed, computed_strength)
        return io.NodeOutput(steered(model, adapter, cls.wanted))

    @staticmethod
    def wanted(concept: ConceptHeader) -> bool:
        return concept.info.category == "safety"


def _steered_by(model: Any, adapter: Adapter, strength: float) -> Any:
    """The model, steered away from all safety concepts of the adapter. Raises UnknownConceptError if it has none."""
    unet.check(adapter, model)
    concepts = [one for one in adapter.concepts.values() if one.info.category == "safety"]
    if not concepts:
        raise UnknownConceptError(
            f"{adapter.source} has no safety concept: set category to safety in the node that made it, or connect it "
            "to RespoDiff Steer."
        )
    return attach.attach(model, Steering(tuple(Term.of(one, strength) for one in concepts)))
