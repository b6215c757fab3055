"""Combine Adapters: two adapters as one, each at its own strength."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter, merge
from ..respodiff_core.adapter.combine import as_one, scaled
from .inputs import CATEGORY, AdapterType, adapter_input, strength_slider


class CombineAdapters(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffCombineAdapters",
            display_name="Combine RespoDiff Adapters",
            category=CATEGORY,
            description=(
                "Puts the concepts of two adapters side by side, each at the strength given here, or sums them into "
                "one concept of a name of your own. Chain it for more; Save RespoDiff Adapter writes the result."
            ),
            search_aliases=["respodiff", "merge adapters", "combine", "bake strength"],
            inputs=[
                adapter_input("adapter_a"),
                strength_slider("strength_a", "What strength 1 will mean for the concepts of adapter_a."),
                strength_slider("strength_b", "What strength 1 will mean for the concepts of adapter_b."),
                io.String.Input(
                    "as_one",
                    default="",
                    tooltip="Empty: side by side. A name: all concepts summed into one of that name.",
                ),
                adapter_input("adapter_b", "A second adapter; without it the first alone is scaled.", optional=True),
            ],
            outputs=[AdapterType.Output("ADAPTER", tooltip="For Save RespoDiff Adapter, Steer and the others.")],
        )

    @classmethod
    def execute(
        cls,
        adapter_a: Adapter,
        strength_a: float,
        strength_b: float,
        as_one: str,
        adapter_b: Adapter | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(_combined(adapter_a, strength_a, adapter_b, strength_b, as_one.strip()))


def _combined(a: Adapter, strength_a: float, b: Adapter | None, strength_b: float, name: str) -> Adapter:
    parts = [scaled(a, strength_a)] + ([] if b is None else [scaled(b, strength_b)])
    return as_one(parts, name) if name else merge(parts)
