"""Fair Group: makes one concept of an adapter, or all but safety concepts, groups for Fair Batch."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.adapter.concept import Concept
from ..respodiff_core.errors import ShareError
from ..respodiff_core.steering.fair_groups import FairGroup
from ..respodiff_core.steering.steering import Term
from .concept_choice import concept_input
from .inputs import CATEGORY, Groups, GroupsType, adapter_input, strength_slider

ALL_CONCEPTS = "(all of them)"


class FairGroupNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffFairGroup",
            display_name="RespoDiff Fair Group",
            category=CATEGORY,
            description=(
                "Turns one concept of an adapter, or every concept except safety concepts, into a group for Fair "
                "Batch. Shares are relative to those of the other groups; each concept gets the same share."
            ),
            search_aliases=["respodiff", "fairness", "bias", "diversity", "share", "group"],
            inputs=[
                adapter_input(tooltip="From Load RespoDiff Adapter, or from Prompt Guard."),
                concept_input(
                    first=ALL_CONCEPTS,
                    tooltip=(
                        "A concept of the connected adapter, or every concept except safety concepts, each as its own "
                        "group."
                    ),
                ),
                io.Float.Input(
                    "share",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="Share of the images, relative to the other groups: 2 and 1 give two thirds and one third.",
                ),
                strength_slider(
                    "strength", "Steering strength. 1: the strength recommended by the file. 0: no effect."
                ),
            ],
            outputs=[GroupsType.Output("GROUPS", tooltip="For Fair Batch or Cross Groups.")],
        )

    @classmethod
    def validate_inputs(cls, concept: str = "") -> bool:
        """Accept any name here; execute raises an error that lists the concepts of the connected adapter."""
        return True

    @classmethod
    def execute(cls, adapter: Adapter, concept: str, share: float, strength: float) -> io.NodeOutput:
        concepts = _fairness(adapter) if concept == ALL_CONCEPTS else [adapter.concept(concept)]
        active = [one for one in concepts if one.name not in adapter.muted]
        groups = tuple(FairGroup(one.name, (Term.of(one, strength),), share) for one in active)
        # If Prompt Guard muted all the concepts, the images stay unsteered.
        groups = groups or (FairGroup.unsteered(share * len(concepts)),)
        return io.NodeOutput(Groups(groups, (adapter,)))


def _fairness(adapter: Adapter) -> list[Concept]:
    found = [one for one in adapter.concepts.values() if one.info.category != "safety"]
    if not found:
        raise ShareError(
            f"{adapter.source} contains only safety concepts, which apply to all images: use the Safety node, or "
            "connect an adapter with fairness concepts."
        )
    return found
