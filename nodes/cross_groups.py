"""Cross Groups: combines every group of one axis with every group of another."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.steering.fair_groups import crossed
from .inputs import CATEGORY, Groups, GroupsType, strength_slider


class CrossGroups(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffCrossGroups",
            display_name="RespoDiff Cross Groups",
            category=CATEGORY,
            description=(
                "Combines the groups of two axes, such as gender and race: each image gets one group of each axis. Two "
                "concepts on one image interfere, so each axis has its own scale. Chain nodes for a third axis."
            ),
            search_aliases=["respodiff", "fairness", "intersectional", "cross", "combine", "gender x race"],
            inputs=[
                GroupsType.Input("first", tooltip="The groups of one axis, from Fair Group."),
                GroupsType.Input("second", tooltip="The groups of the other axis."),
                strength_slider(
                    "first_scale",
                    "Factor on the strengths of the first axis. The paper uses 1.1 for gender.",
                    least=0.0,
                ),
                strength_slider(
                    "second_scale",
                    "Factor on the strengths of the second axis. The paper uses 0.9 for race.",
                    least=0.0,
                ),
            ],
            outputs=[GroupsType.Output("GROUPS", tooltip="For Fair Batch or another Cross Groups node.")],
        )

    @classmethod
    def execute(cls, first: Groups, second: Groups, first_scale: float, second_scale: float) -> io.NodeOutput:
        groups = crossed(first.groups, second.groups, first_scale, second_scale)
        return io.NodeOutput(Groups(groups, first.adapters + second.adapters))
