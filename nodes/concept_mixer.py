"""Concept Mixer: one slider for each concept of a file."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter, ConceptHeader
from ..respodiff_core.errors import RespoDiffError, StrengthError
from ..respodiff_core.steering.steering import Steering, Term
from .concept_sliders import SliderNode, check_chosen, file_input, steered
from .host import attach, unet
from .inputs import CATEGORY, adapter_input, lines, model_input, model_output


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
            inputs=[
                model_input(),
                file_input(cls.wanted, 0.0),
                adapter_input(
                    "computed",
                    "From RespoDiff Instant Concept or another node: steered at computed_strengths.",
                    optional=True,
                ),
                # Not a widget: the page restores values by position, and there may be other sliders by then.
                io.String.Input(
                    "computed_strengths",
                    force_input=True,
                    optional=True,
                    tooltip="Text with its strengths, one per line, such as 'old = 0.5'. Others stay at 0.",
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
        computed_strengths: str = "",
    ) -> io.NodeOutput:
        check_chosen(adapter, computed)
        if computed is not None:
            unet.check(computed, model)
            model = attach.attach(model, Steering(_terms(computed, computed_strengths)))
        return io.NodeOutput(steered(model, adapter, cls.wanted))

    @staticmethod
    def wanted(concept: ConceptHeader) -> bool:
        return True


def _terms(adapter: Adapter, strengths: str) -> tuple[Term, ...]:
    """The concepts at the strengths of a text with lines such as 'old = 0.5'. Raises StrengthError."""
    given: dict[str, float] = {}
    for line in lines(strengths):
        name, _, value = (part.strip() for part in line.rpartition("="))
        try:
            given[adapter.concept(name).name] = float(value)
        except ValueError as error:
            if isinstance(error, RespoDiffError):
                raise
            raise StrengthError(f"The line {line!r} is not a strength: write it as 'old = 0.5'.") from None
    return tuple(Term.of(adapter.concept(name), value) for name, value in given.items() if value)
