"""Fair Group: one concept, or every one of an adapter, as groups that images are shared among."""

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
                "Makes one concept of an adapter, or all of its fairness concepts, groups for Fair Batch. The share is "
                "in proportion to the other groups'; all of an adapter get the same one."
            ),
            search_aliases=["respodiff", "fairness", "bias", "diversity", "share", "group"],
            inputs=[
                adapter_input(tooltip="From Load RespoDiff Adapter, or from Prompt Guard."),
                concept_input(
                    first=ALL_CONCEPTS,
                    tooltip="A concept of the connected adapter, or all of its fairness concepts as a group each.",
                ),
                io.Float.Input(
                    "share",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="How many images, in proportion to the other groups: 2 and 1 are two thirds and one third.",
                ),
                strength_slider("strength", "How strongly: 1 as the file recommends, 0 not at all."),
            ],
            outputs=[GroupsType.Output("GROUPS", tooltip="For Fair Batch or Cross Groups.")],
        )

    @classmethod
    def validate_inputs(cls, concept: str = "") -> bool:
        """Accept any name here: execute says which concepts the connected adapter holds."""
        return True

    @classmethod
    def execute(cls, adapter: Adapter, concept: str, share: float, strength: float) -> io.NodeOutput:
        concepts = _fairness(adapter) if concept == ALL_CONCEPTS else [adapter.concept(concept)]
        active = [one for one in concepts if one.name not in adapter.muted]
        groups = tuple(FairGroup(one.name, (Term.of(one, strength),), share) for one in active)
        # Where the prompt says who is shown, the images are left as it says.
        groups = groups or (FairGroup.unsteered(share * len(concepts)),)
        return io.NodeOutput(Groups(groups, (adapter,)))


def _fairness(adapter: Adapter) -> list[Concept]:
    found = [one for one in adapter.concepts.values() if one.info.category != "safety"]
    if not found:
        raise ShareError(
            f"{adapter.source} holds safety concepts only, which are for every image alike: use the Safety node, or "
            "connect an adapter with fairness concepts."
        )
    return found
